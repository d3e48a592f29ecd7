//! The file of boot methods: what it says, whom it fits, what is wrong with it.

use farmgate_job::{
    Artifact, BootMethods, Checked, DhcpClient, FastbootClient, ScriptClient, Source, Variables,
    check_boot_methods,
};

fn look(text: &str) -> Checked<BootMethods> {
    check_boot_methods(
        &Source { name: "boots_db.yml.j2", text },
        &Variables::default().set("server", "http://h"),
    )
}

fn good(text: &str) -> BootMethods {
    let checked = look(text);
    assert_eq!(checked.problems, [], "{text}");
    checked.value.unwrap_or_else(|| panic!("no value: {text}"))
}

const FARM: &str = r#"
dhcp:
  pi:
    match: {mac_address: ['b8:27:eb:.*', 'dc:a6:32:.*'], protocol: tftp}
    defaults:
      kernel: {url: "{{ server }}/pi", cmdline: {50-console: console=ttyAMA0}}
  efi:
    match: {architecture: x86_64, platform: efi}
    defaults: {kernel: {url: "{{ server }}/efi"}}
  rest:
    defaults: {kernel: {url: "{{ server }}/rest"}}
fastboot:
  phone:
    match: {usb: {idVendor: 0x18d1, idProduct: [0xd00d, 0xd00e]}, variables: {product: 'sdm.*'}}
    defaults: {kernel: {url: "{{ server }}/phone"}}
"#;

#[test]
fn the_first_method_that_fits_counts() {
    let methods = good(FARM);
    let name = |client: &DhcpClient<'_>, script: Option<&ScriptClient<'_>>| {
        methods.for_dhcp(client, script).map(|method| method.name.clone()).unwrap_or_default()
    };
    let pi = DhcpClient {
        mac_address: "dc:a6:32:00:00:01".parse().ok(),
        protocol: Some("tftp"),
        ..DhcpClient::default()
    };
    assert_eq!(name(&pi, None), "pi");
    assert_eq!(name(&DhcpClient { protocol: Some("http"), ..pi }, None), "rest");
    let pc = DhcpClient { architecture: Some("x86_64"), ..DhcpClient::default() };
    assert_eq!(name(&pc, None), "rest");
    assert_eq!(name(&pc, Some(&ScriptClient { platform: Some("efi"), ..ScriptClient::default() })), "efi");
    assert_eq!(
        name(&pc, Some(&ScriptClient { platform: Some("pcbios"), ..ScriptClient::default() })),
        "rest"
    );
    assert_eq!(methods.dhcp[0].defaults.kernel, Some(Artifact::Url("http://h/pi".into())));
    assert_eq!(methods.dhcp[0].defaults.cmdline.categories["50-console"], ["console=ttyAMA0"]);
}

#[test]
fn a_phone_is_known_by_its_usb_ids_and_variables() {
    let methods = good(FARM);
    let phone = FastbootClient {
        id_vendor: 0x18d1,
        id_product: 0xd00e,
        variables: vec![("product", "sdm845")],
        ..FastbootClient::default()
    };
    assert!(methods.for_fastboot(&phone).is_some());
    for other in [
        FastbootClient { id_vendor: 1, ..phone.clone() },
        FastbootClient { id_product: 1, ..phone.clone() },
        FastbootClient { variables: vec![("product", "x")], ..phone.clone() },
        FastbootClient { variables: vec![], ..phone.clone() },
    ] {
        assert!(methods.for_fastboot(&other).is_none(), "{other:?}");
    }
}

#[test]
fn a_file_that_says_nothing_is_fine() {
    for text in ["", "# nothing yet\n\n", "{}", "~", "version: 1", "dhcp: {}\nfastboot: ~\n"] {
        assert_eq!(good(text), BootMethods::default(), "{text:?}");
    }
}

#[test]
fn methods_survive_being_stored() {
    let methods = good(FARM);
    let stored = serde_json::to_string(&methods).unwrap();
    assert_eq!(serde_json::from_str::<BootMethods>(&stored).unwrap(), methods);
}

/// (the file, what the message says, what the help says, line)
const REFUSED: [(&str, &str, &str, usize); 13] = [
    ("dhpc: {}", "the file of boot methods has no field `dhpc`", "did you mean `dhcp`?", 1),
    ("[a]", "must be a mapping, not a list", "version, dhcp, fastboot", 1),
    ("version: 2", "`version` must be a whole number from 1 to 1", "", 1),
    ("dhcp: [a]", "`dhcp` must be a mapping, not a list", "NAME: {match", 1),
    ("dhcp:\n  a: {match: {}}", "`dhcp.a` has no `defaults`", "`deployment.start` of a job", 2),
    ("dhcp:\n  a: {default: {}}", "has no field `default`", "did you mean `defaults`?", 2),
    (
        "dhcp:\n  a: {match: {plattform: efi}, defaults: {}}",
        "has no field `plattform`",
        "did you mean `platform`?",
        2,
    ),
    (
        "dhcp:\n  a: {defaults: {kernel: {url: x}}}",
        "`dhcp.a.defaults.kernel.url` is no address",
        "https://",
        2,
    ),
    (
        "dhcp:\n  a: {defaults: {kernal: {}}}",
        "`dhcp.a.defaults` has no field `kernal`",
        "did you mean `kernel`?",
        2,
    ),
    ("fastboot:\n  a: {match: {usb: {idVendor: 0x10000}}, defaults: {}}", "from 0 to 65535", "", 2),
    (
        "fastboot:\n  a: {match: {usb: {idvendor: 1}}, defaults: {}}",
        "has no field `idvendor`",
        "did you mean `idVendor`?",
        2,
    ),
    ("fastboot:\n  a: {match: {variables: [x]}, defaults: {}}", "must be a mapping, not a list", "getvar", 2),
    ("dhcp:\n  a: {defaults: {}}\n  a: {defaults: {}}", "`a` is given twice", "remove one", 3),
];

#[test]
fn what_is_wrong_is_told_at_its_line_with_a_remedy() {
    for (text, message, help, line) in REFUSED {
        let checked = look(text);
        let found = checked.problems.iter().find(|p| p.message.contains(message));
        let problem = found.unwrap_or_else(|| panic!("{text}: {:?}", checked.problems));
        assert!(problem.help.as_deref().unwrap_or_default().contains(help), "{text}: {problem}");
        assert_eq!(problem.place.unwrap().line, line, "{text}");
        assert_eq!(problem.file, "boots_db.yml.j2");
        assert_eq!(checked.problems.len(), 1, "{text}: {:?}", checked.problems);
    }
}

#[test]
fn what_can_never_be_used_is_a_warning() {
    let checked = look("dhcp:\n  all: {defaults: {}}\n  pi: {match: {protocol: tftp}, defaults: {}}\n");
    assert_eq!(checked.problems, []);
    let told: Vec<_> = checked.warnings.iter().map(|w| w.message.as_str()).collect();
    assert_eq!(told, ["`dhcp.pi` is never used: `dhcp.all` before it fits every machine"]);
    let checked = look("dhcp:\n  a: {match: {bootloader: grub}, defaults: {}}\n");
    assert!(checked.warnings[0].message.contains("`grub` never fits"), "{:?}", checked.warnings);
}

#[test]
fn what_the_gateway_lacks_is_told_here_too() {
    let checked = look("dhcp:\n  a:\n    defaults:\n      dtb: {url: http://h/d}\n");
    assert_eq!(checked.unsupported.len(), 1);
    assert_eq!(checked.unsupported[0].place.unwrap().line, 4);
}

#[test]
fn the_example_of_the_manual_is_right() {
    let page = include_str!("../../../docs/boot-methods.md");
    let (_, rest) = page.split_once("```yaml boot methods\n").unwrap();
    let methods = check_boot_methods(
        &Source { name: "boot-methods.md", text: rest.split("```").next().unwrap() },
        &Variables::default(),
    );
    assert_eq!((methods.problems, methods.unsupported, methods.warnings), (vec![], vec![], vec![]));
    let methods = methods.value.unwrap();
    assert_eq!((methods.dhcp.len(), methods.fastboot.len()), (3, 1));
}
