//! The ipmi driver against a stand-in for `ipmitool` (`ipmitool.sh`), written from its man page and its messages.

use async_trait::async_trait;
use farmgate_pdu::{Driver, DriverError, make};
use farmgate_protocol::PortId;
use serde_json::{Value, json};

use crate::{
    conformance::{self, Fault, Misbehave, labels},
    scripts::Folder,
};

struct Bmc(Folder);

impl Bmc {
    fn config(&self, username: &str, password: &str) -> Value {
        let program = self.0.program();
        json!({"hostname": "10.0.0.2", "username": username, "password": password, "program": program})
    }

    fn made(&self, config: &Value) -> Box<dyn Driver> {
        make("ipmi", config).unwrap()
    }
}

fn bmc() -> Bmc {
    Bmc(Folder::with("ipmitool.sh", "ipmitool"))
}

#[async_trait]
impl Misbehave for Bmc {
    fn name(&self) -> String {
        "ipmi".to_owned()
    }

    fn driver(&self) -> Box<dyn Driver> {
        self.made(&self.config("ADMIN", "se cret"))
    }

    fn with_wrong_credentials(&self) -> Option<Box<dyn Driver>> {
        Some(self.made(&self.config("ADMIN", "wrong")))
    }

    fn with_reading_only(&self) -> Option<Box<dyn Driver>> {
        Some(self.made(&self.config("viewer", "se cret")))
    }

    fn outlets(&self) -> (usize, usize) {
        (1, 1)
    }

    fn label(&self, _: usize, _: &str) -> String {
        "server of the BMC 10.0.0.2:623".to_owned()
    }

    async fn outfit(&mut self, _: &[String]) {
        self.0.clear();
        self.0.write("power", "off\n");
    }

    async fn fault(&mut self, fault: Fault) -> bool {
        self.0.fault(fault)
    }

    async fn is_on(&mut self, _: usize) -> bool {
        self.0.read("power") == "on\n"
    }

    async fn press(&mut self, _: usize, on: bool) {
        self.0.write("power", if on { "on\n" } else { "off\n" });
    }

    async fn commands(&mut self) -> usize {
        self.0.commands()
    }
}

pub async fn conforms() {
    conformance::all(&mut bmc()).await;
}

#[tokio::test]
async fn the_password_is_never_on_the_command_line_and_the_options_are() {
    let mut bmc = bmc();
    bmc.outfit(&labels(1)).await;
    let mut config = bmc.config("ADMIN", "se cret");
    config["hostname"] = json!("[fe80::1]:6230");
    config["interface"] = json!("lan");
    config["privilege"] = json!("OPERATOR");
    config["cipher_suite"] = json!(3);
    let mut driver = bmc.made(&config);
    driver.ports().await.unwrap();
    driver.write(&1.into(), true).await.unwrap();
    let arguments = bmc.0.read("arguments");
    assert!(!arguments.contains("cret"), "{arguments}");
    let expected = "-I lan -H fe80::1 -p 6230 -U ADMIN -E -N 1 -R 2 -L OPERATOR -C 3 chassis power on\n";
    assert!(arguments.ends_with(expected), "{arguments}");
}

#[tokio::test]
async fn a_user_that_the_bmc_does_not_know_is_a_matter_of_credentials() {
    let mut bmc = bmc();
    bmc.outfit(&labels(1)).await;
    let error = bmc.made(&bmc.config("nobody", "se cret")).ports().await.unwrap_err();
    assert!(matches!(error, DriverError::Authentication(_)), "{error:?}");
}

#[tokio::test]
async fn what_ipmitool_never_said_before_is_no_state() {
    let mut bmc = bmc();
    bmc.outfit(&labels(1)).await;
    bmc.0.write("power", "undecided\n");
    let error = bmc.driver().read(&PortId::from(1)).await.unwrap_err();
    assert!(matches!(&error, DriverError::Protocol(what) if what.contains("undecided")), "{error:?}");
}

#[tokio::test]
async fn a_missing_ipmitool_is_told_with_the_package_to_install() {
    let mut config = bmc().config("ADMIN", "x");
    config["program"] = json!("/nonexistent/ipmitool");
    let error = make("ipmi", &config).unwrap().ports().await.unwrap_err().to_string();
    assert!(error.contains("install the package ipmitool"), "{error}");
}
