//! The command driver against a script that a person could have written (`relay.sh`).

use async_trait::async_trait;
use farmgate_pdu::{Driver, DriverError, make};
use farmgate_protocol::{PortId, pdu::PortState};
use serde_json::{Value, json};

use crate::{
    conformance::{self, Fault, Misbehave, labels},
    scripts::Folder,
};

struct Card {
    folder: Folder,
    outlets: usize,
}

fn card() -> Card {
    Card { folder: Folder::with("relay.sh", "relay"), outlets: 0 }
}

impl Card {
    fn config(&self, token: &str) -> Value {
        let relay = self.folder.program();
        json!({
            "on": [relay, "on", "{port}"],
            "off": [relay, "off", "{port}"],
            "state": [relay, "state", "{port}"],
            "list": [relay, "list"],
            "env": {"RELAY_TOKEN": token},
        })
    }
}

#[async_trait]
impl Misbehave for Card {
    fn name(&self) -> String {
        "command".to_owned()
    }

    fn driver(&self) -> Box<dyn Driver> {
        make("command", &self.config("se cret")).unwrap()
    }

    /// The one after the last.
    fn unknown_id(&self) -> PortId {
        self.id(self.outlets)
    }

    async fn outfit(&mut self, labels: &[String]) {
        self.folder.clear();
        self.outlets = labels.len();
        let mut list = String::new();
        for (n, label) in labels.iter().enumerate() {
            let id = self.id(n);
            list.push_str(&format!("{id} {label}\n"));
            self.folder.write(&format!("outlet-{id}"), "off\n");
        }
        self.folder.write("labels", &list);
    }

    async fn fault(&mut self, fault: Fault) -> bool {
        // A program is always there.
        fault != Fault::Gone && self.folder.fault(fault)
    }

    async fn is_on(&mut self, n: usize) -> bool {
        self.folder.read(&format!("outlet-{}", self.id(n))) == "on\n"
    }

    async fn press(&mut self, n: usize, on: bool) {
        self.folder.write(&format!("outlet-{}", self.id(n)), if on { "on\n" } else { "off\n" });
    }

    async fn commands(&mut self) -> usize {
        self.folder.commands()
    }
}

pub async fn conforms() {
    conformance::all(&mut card()).await;
}

#[tokio::test]
async fn a_program_that_fails_is_told_with_its_last_words_but_not_with_our_secrets() {
    let mut card = card();
    card.outfit(&labels(1)).await;
    let mut driver = make("command", &card.config("hunter2")).unwrap();
    let error = driver.ports().await.unwrap_err().to_string();
    assert!(
        error.contains("exit code 2: the token (hidden) is wrong") && !error.contains("hunter2"),
        "{error}"
    );
}

#[tokio::test]
async fn ports_may_be_written_down_and_states_may_have_other_words() {
    let mut card = card();
    card.outfit(&labels(2)).await;
    let mut config = card.config("se cret");
    config.as_object_mut().unwrap().remove("list");
    config["ports"] = json!({"1": "Dose ü", "2": "zwei"});
    config["state_mapping"] = json!({"on": "Relay closed", "off": "Relay open"});
    let mut driver = make("command", &config).unwrap();
    let infos = driver.ports().await.unwrap();
    let shown: Vec<_> = infos.iter().map(|info| (info.id.as_str(), info.label.as_str())).collect();
    assert_eq!(shown, [("1", "Dose ü"), ("2", "zwei")]);
    let one = PortId::from(1);
    for (said, state) in [
        ("Relay closed", PortState::On),
        ("Relay open\n", PortState::Off),
        ("on", PortState::Unknown),
        ("Relay", PortState::Unknown),
        ("", PortState::Unknown),
    ] {
        card.folder.write("outlet-1", said);
        assert_eq!(driver.read(&one).await.unwrap(), state, "{said:?}");
    }
    assert!(matches!(driver.read(&3.into()).await, Err(DriverError::UnknownPort(_))));
}

#[tokio::test]
async fn no_shell_reads_an_id() {
    let mut card = card();
    card.outfit(&[]).await;
    let id = "$(touch${IFS}x);y";
    card.folder.write("labels", &format!("{id} evil\n"));
    let id = PortId::new(id).unwrap();
    card.folder.write(&format!("outlet-{id}"), "off\n");
    let mut driver = card.driver();
    assert_eq!(driver.ports().await.unwrap()[0].id, id);
    driver.write(&id, true).await.unwrap();
    assert_eq!(card.folder.read(&format!("outlet-{id}")), "on\n");
}

#[tokio::test]
async fn times_are_those_of_the_config() {
    let card = card();
    let mut config = card.config("x");
    config["settle_time"] = json!(3);
    config["min_off_time"] = json!(0.5);
    let driver = make("command", &config).unwrap();
    assert_eq!(driver.settle_time().as_secs_f64(), 3.0);
    assert_eq!(driver.default_min_off_time().as_secs_f64(), 0.5);
    assert_eq!(card.driver().default_min_off_time().as_secs_f64(), 30.0);
}

#[tokio::test]
async fn the_manual_s_example_is_understood() {
    let manual = include_str!("../../../../docs/pdu-driver.md");
    let example = manual.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let farm: Value = serde_saphyr::from_str(example).unwrap();
    let bench = &farm["pdus"]["bench"];
    let mut driver = make(bench["driver"].as_str().unwrap(), &bench["config"]).unwrap();
    let labels: Vec<_> = driver.ports().await.unwrap().into_iter().map(|port| port.label).collect();
    assert_eq!(labels, ["left board", "right board"]);
}
