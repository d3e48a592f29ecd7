//! Both boots of a job: what `continue` inherits, what the gateway lacks, DHCP, fastboot, the proxy.

use farmgate_job::{
    Artifact, BootSpec, Checked, Deployment, DhcpClient, DhcpValue, Job, Source, Variables, check, resolve,
};

fn look(text: &str) -> Checked<Job> {
    check(&Source { name: "job.yml", text }, &Variables::default())
}

fn good(text: &str) -> Job {
    let checked = look(text);
    assert_eq!(checked.problems, [], "{text}");
    checked.value.unwrap_or_else(|| panic!("no value: {text}"))
}

/// Everything that the language has.
const WHOLE: &str = r#"version: 1
deadline: 2027-01-01
target: {id: lab-1, tags: [a]}
timeouts: {boot_cycle: {minutes: 5, retries: 2}, watchdogs: {w: {seconds: 1}}}
console_patterns:
  session_reboot: {regex: again}
  job_success: {regex: '(?<=a)b'}
  watchdogs: {w: {start: {regex: x}, stop: {regex: y}}}
proxy: {allowed_endpoints: [a.example.org:443, '[::1]:80']}
deployment:
  start:
    kernel: {url: http://h/k, format: [{uboot: {architecture: arm64}}], cmdline: {b: [one], ":uncategorised": two}}
    initramfs: {archive: {extension: cpio, add: [{path: a, artifact: {data: x}}]}}
    dtb: [{url: http://h/d}]
    storage:
      http: {"50-platform": {path: '/(.*)', url: 'http://h/\1'}}
      tftp: [{path: /config.txt, data: x}]
      imagestore: {public: {images: {i: {name: alpine}}}}
      nbd: {swap: {size: 8G}}
    fastboot: {header_version: 2, base: 0x1000, boot_image: {url: http://h/b}}
    dhcp: [{match: {architecture: arm64}, options: {hostname: me, 67: x.efi, 224: [1, 2]}}]
  continue:
    kernel: {cmdline: again}
    fastboot: {base: 0x2000, board: b}
    storage: {nbd: {root: {url: http://h/r}}}
"#;

#[test]
fn a_whole_job_survives_being_stored() {
    let job = good(WHOLE);
    let stored = serde_json::to_string(&job).unwrap();
    assert_eq!(serde_json::from_str::<Job>(&stored).unwrap(), job);
    assert!(look(WHOLE).warnings.is_empty(), "{:?}", look(WHOLE).warnings);
}

#[test]
fn a_later_boot_is_the_first_one_updated_field_by_field() {
    let job = good(WHOLE);
    let (start, later) = (&job.start, &job.continue_);
    assert_eq!((start.cmdline.as_deref(), later.cmdline.as_deref()), (Some("one two"), Some("one again")));
    assert_eq!((&later.kernel, &later.initramfs, &later.dtb), (&start.kernel, &start.initramfs, &start.dtb));
    assert_eq!((&later.storage.http, &later.storage.tftp), (&start.storage.http, &start.storage.tftp));
    assert_eq!((&later.storage.images, &later.dhcp), (&start.storage.images, &start.dhcp));
    assert_eq!(later.storage.nbd.keys().collect::<Vec<_>>(), ["root", "swap"]);
    let fastboot = later.fastboot.clone().unwrap();
    assert_eq!(
        (fastboot.header_version, fastboot.base, fastboot.board.as_deref()),
        (Some(2), Some(0x2000), Some("b"))
    );
    assert_eq!(fastboot.boot_image, Some(Artifact::Url("http://h/b".into())));
    assert_eq!(
        job.proxy.allowed_endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["a.example.org:443", "[::1]:80"]
    );
}

#[test]
fn a_new_kernel_in_continue_replaces_whatever_source_there_was() {
    for (start, later) in
        [("url: http://h/a", "data: x"), ("data: y", "data: x"), ("archive: {extension: tar}", "data: x")]
    {
        let job = good(&format!(
            "version: 1\ndeployment: {{start: {{kernel: {{{start}}}}}, continue: {{kernel: {{{later}}}}}}}\n"
        ));
        assert_eq!(job.continue_.kernel, Some(Artifact::Data("x".into())));
    }
}

#[test]
fn every_list_inherits_by_category() {
    for (list, item, fields) in [
        ("initramfs", "{data: NAME}", 1),
        ("dtb", "{data: NAME}", 1),
        ("dhcp", "{options: {hostname: NAME}}", 1),
        ("storage.http", "{path: /NAME, data: x}", 2),
        ("storage.tftp", "{path: /NAME, data: x}", 2),
    ] {
        let one = |name: &str| item.replace("NAME", name);
        let wrap = |inner: String| match list.split_once('.') {
            Some((outer, list)) => format!("{{{outer}: {{{list}: {inner}}}}}"),
            None => format!("{{{list}: {inner}}}"),
        };
        let start = wrap(format!("{{a: {}, b: [{}], ':uncategorised': {}}}", one("a"), one("b"), one("u")));
        let later = wrap(format!("{{b: [], c: {}}}", one("c")));
        let job = good(&format!("version: 1\ndeployment: {{start: {start}, continue: {later}}}\n"));
        let names = |boot: &BootSpec| {
            let text = serde_json::to_string(&boot.deployment()).unwrap();
            ["a", "b", "c", "u"]
                .into_iter()
                .filter(|n| text.contains(&format!("\"{n}\"")) || text.contains(&format!("\"/{n}\"")))
                .collect::<String>()
        };
        // The names of categories stay, so that what they hold is counted.
        let count = |boot: &BootSpec| match list {
            "initramfs" => boot.initramfs.as_ref().map_or(0, Vec::len),
            "dtb" => boot.dtb.as_ref().map_or(0, Vec::len),
            "dhcp" => boot.dhcp.len(),
            "storage.http" => boot.storage.http.len(),
            _ => boot.storage.tftp.len(),
        };
        assert_eq!((count(&job.start), count(&job.continue_)), (3, 3), "{list} {fields}");
        assert_eq!(names(&job.continue_), "abcu", "{list}");
    }
}

#[test]
fn a_boot_is_laid_over_the_defaults_of_a_boot_method() {
    let defaults: Deployment = good(
        "version: 1\ndeployment: {start: {kernel: {url: http://h/default, format: [{uboot: {}}], cmdline: {console: console=ttyS0, test: none}}, initramfs: {base: {url: http://h/i}}, dtb: {url: http://h/d}}}\n",
    )
    .start
    .into();
    let job = good(
        "version: 1\ndeployment: {start: {kernel: {cmdline: {test: mine}}, initramfs: {extra: {data: x}}}, continue: {kernel: {url: http://h/k}}}\n",
    );
    let first = job.start.over(&defaults);
    assert_eq!(
        first.kernel.as_ref().map(|k| k.source().clone()),
        Some(Artifact::Url("http://h/default".into()))
    );
    assert_eq!(first.kernel.as_ref().map(|k| k.format().len()), Some(1));
    assert_eq!(first.cmdline.as_deref(), Some("console=ttyS0 mine"));
    assert_eq!(first.initramfs, Some(vec![Artifact::Url("http://h/i".into()), Artifact::Data("x".into())]));
    assert_eq!(first.dtb.as_ref().map(Vec::len), Some(1));
    let later = job.continue_.over(&defaults);
    assert_eq!(
        later.kernel.as_ref().map(|k| (k.source().clone(), k.format().len())),
        Some((Artifact::Url("http://h/k".into()), 1))
    );
    assert_eq!(later.cmdline, first.cmdline);
    assert_eq!(BootSpec::default().over(&Deployment::default()), BootSpec::default());
}

#[test]
fn what_lives_as_long_as_the_job_cannot_change_in_continue() {
    let job = |start: &str, later: &str| {
        look(&format!(
            "version: 1\ndeployment:\n  start: {{storage: {start}}}\n  continue: {{storage: {later}}}\n"
        ))
    };
    let (one, two) = ("{nbd: {a: {size: 1G}}}", "{nbd: {a: {size: 2G}}}");
    assert_eq!(job(one, one).problems, []);
    let problems = job(one, two).problems;
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].place.unwrap().line, 4);
    assert!(
        problems[0].message.contains("`deployment.continue.storage.nbd.a` is another than that of `start`"),
        "{}",
        problems[0]
    );
    let image = |name: &str| format!("{{imagestore: {{public: {{images: {{i: {{name: {name}}}}}}}}}}}");
    assert_eq!(job(&image("x"), &image("x")).problems, []);
    assert!(job(&image("x"), &image("y")).problems[0].help.as_deref().unwrap().contains("pulled once"));
}

/// (the job after its first line, the name of what is not supported, its line)
const LACKING: [(&str, &str, usize); 15] = [
    ("proxy: {allowed_endpoints: 'h:1'}", "proxy", 2),
    ("deployment:\n  start:\n    dtb: {url: http://h/d}", "deployment.start.dtb", 4),
    ("deployment: {start: {storage: {http: {path: /x, data: x}}}}", "deployment.start.storage.http", 2),
    ("deployment: {start: {storage: {tftp: {path: /x, data: x}}}}", "deployment.start.storage.tftp", 2),
    (
        "deployment: {start: {storage: {imagestore: {public: {images: {a: {name: x}}}}}}}",
        "deployment.start.storage.imagestore",
        2,
    ),
    (
        "deployment:\n  continue:\n    storage:\n      nbd:\n        a: {size: 1G}",
        "deployment.continue.storage.nbd",
        6,
    ),
    ("deployment: {continue: {fastboot: {base: 1}}}", "deployment.continue.fastboot", 2),
    ("deployment: {start: {dhcp: {options: {hostname: x}}}}", "deployment.start.dhcp", 2),
    ("deployment: {start: {kernel: {format: [{uboot: {}}]}}}", "deployment.start.kernel.format", 2),
    ("deployment: {start: {kernel: {archive: {extension: tar}}}}", "deployment.start.kernel.archive", 2),
    (
        "deployment: {start: {initramfs: [{data: x, format: [{uboot: }]}]}}",
        "deployment.start.initramfs.format",
        2,
    ),
    (
        "deployment: {start: {initramfs: [{archive: {extension: cpio}}]}}",
        "deployment.start.initramfs.archive",
        2,
    ),
    (
        "deployment: {start: {initramfs: {a: [{data: x}, {archive: {extension: cpio}}]}}}",
        "deployment.start.initramfs.archive",
        2,
    ),
    ("deployment:\n  start:\n    dtb:\n    - {url: http://h/d}", "deployment.start.dtb", 5),
    ("deployment: {start: {dhcp: [{match: {uuid: x}, options: {12: x}}]}}", "deployment.start.dhcp", 2),
];

#[test]
fn what_the_gateway_lacks_is_read_and_refused_at_its_line() {
    for (text, name, line) in LACKING {
        let text = format!("version: 1\n{text}\n");
        let checked = look(&text);
        assert_eq!(checked.problems, [], "{text}");
        assert!(checked.value.is_some(), "{text}");
        assert_eq!(checked.unsupported.len(), 1, "{text}: {:?}", checked.unsupported);
        assert!(
            checked.unsupported[0].message.contains(&format!("`{name}`")),
            "{text}: {}",
            checked.unsupported[0]
        );
        assert_eq!(checked.unsupported[0].place.unwrap().line, line, "{text}");
        assert!(
            resolve(&Source { name: "j", text: &text }, &Variables::default()).unwrap_err().is_unsupported()
        );
    }
}

#[test]
fn what_is_empty_asks_for_nothing() {
    for text in [
        "proxy: {}",
        "proxy: {allowed_endpoints: []}",
        "deployment: {start: {dtb: [], storage: {}, fastboot: {}, dhcp: []}}",
        "deployment: {start: {storage: {http: [], tftp: ~, imagestore: {}, nbd: {}}}}",
        "deployment: {start: {kernel: {format: []}}, continue: ~}",
    ] {
        let text = format!("version: 1\n{text}\n");
        let checked = look(&text);
        assert_eq!((&checked.problems, &checked.warnings), (&vec![], &vec![]), "{text}");
        let told = checked.unsupported.iter().map(|p| p.message.as_str()).collect::<Vec<_>>();
        assert!(told.is_empty() || text.contains("allowed_endpoints"), "{text}: {told:?}");
    }
}

#[test]
fn options_are_read_by_name_and_by_number() {
    let job = good(
        "version: 1\ndeployment: {start: {dhcp: [{options: {host-name: me, router: [10.0.0.1, 10.0.0.2], interface_mtu: 1500, ip_forwarding: yes, time_offset: -3600, static_route: [10.1.0.0, 10.0.0.1], path_mtu_plateau_table: [68, 1500], 43: [6, 1, 3], 224: hello, 66: '1'}}]}}\n",
    );
    let options: Vec<_> =
        job.start.dhcp[0].options.iter().map(|(code, value)| (*code, value.encode())).collect();
    let expected: Vec<(u8, Vec<u8>)> = vec![
        (2, vec![255, 255, 241, 240]),
        (3, vec![10, 0, 0, 1, 10, 0, 0, 2]),
        (12, b"me".to_vec()),
        (19, vec![1]),
        (25, vec![0, 68, 5, 220]),
        (26, vec![5, 220]),
        (33, vec![10, 1, 0, 0, 10, 0, 0, 1]),
        (43, vec![6, 1, 3]),
        (66, b"1".to_vec()),
        (224, b"hello".to_vec()),
    ];
    assert_eq!(options, expected);
    assert_eq!(job.start.dhcp[0].options[&12], DhcpValue::Text("me".into()));
}

#[test]
fn a_match_needs_all_fields_and_one_value_of_each() {
    let job = good(
        "version: 1\ndeployment: {start: {dhcp: [{match: {architecture: [arm64, 'riscv.*'], mac_address: ['B8:27:EB:00:00:01', 'dc:a6:32:.*'], user_class: '*x'}, options: {12: a}}, {options: {12: b}}]}}\n",
    );
    let matches = &job.start.dhcp[0].matches;
    let mac = |text: &str| text.parse().ok();
    let client = DhcpClient {
        architecture: Some("arm64"),
        mac_address: mac("dc:a6:32:01:02:03"),
        user_class: Some("*x"),
        ..DhcpClient::default()
    };
    assert!(matches.fits(&client));
    assert!(matches.fits(&DhcpClient {
        architecture: Some("riscv64"),
        mac_address: mac("b8:27:eb:00:00:01"),
        ..client.clone()
    }));
    for other in [
        DhcpClient { architecture: Some("x86_64"), ..client.clone() },
        DhcpClient { architecture: None, ..client.clone() },
        DhcpClient { mac_address: mac("b8:27:eb:00:00:02"), ..client.clone() },
        DhcpClient { user_class: Some("xx"), ..client.clone() },
    ] {
        assert!(!matches.fits(&other), "{other:?}");
    }
    assert!(job.start.dhcp[1].matches.fits(&DhcpClient::default()));
}

/// (`deployment.start`, what the message says, what the help says)
const REFUSED: [(&str, &str, &str); 29] = [
    ("{dhcp: [{option: {}}]}", "has no field `option`", "did you mean `options`?"),
    ("{dhcp: [{match: {arch: x}, options: {12: x}}]}", "has no field `arch`", "did you mean `architecture`?"),
    ("{dhcp: [{match: {mac_address: '52:54:*'}, options: {12: x}}]}", "", ""),
    (
        "{dhcp: [{match: {mac_address: '(52'}, options: {12: x}}]}",
        "neither an address nor a regex",
        "for many",
    ),
    ("{dhcp: [{match: {uuid: {a: b}}, options: {12: x}}]}", "must be a text, not a mapping", ""),
    ("{dhcp: [{options: [12]}]}", "must be a mapping, not a list", "NAME: VALUE"),
    (
        "{dhcp: [{options: {bootfile_nmae: x}}]}",
        "there is no option `bootfile_nmae`",
        "did you mean `bootfile_name`?",
    ),
    ("{dhcp: [{options: {xyzzy: x}}]}", "there is no option `xyzzy`", "RFC 2132"),
    ("{dhcp: [{options: {256: x}}]}", "there is no option `256`", "1 to 254"),
    ("{dhcp: [{options: {53: [1]}}]}", "cannot set option 53", "writes it itself"),
    ("{dhcp: [{options: {server_identifier: 10.0.0.1}}]}", "cannot set option 54", "writes it itself"),
    ("{dhcp: [{options: {0: x}}]}", "cannot set option 0", "writes it itself"),
    ("{dhcp: [{options: {12: a, hostname: b}}]}", "given twice", "remove one"),
    ("{dhcp: [{options: {router: gateway}}]}", "must be an IPv4 address, not `gateway`", "10.42.0.1"),
    ("{dhcp: [{options: {subnet_mask: [255.0.0.0, 255.0.0.0]}}]}", "has 2 addresses", "one address"),
    ("{dhcp: [{options: {static_route: [10.0.0.1]}}]}", "has 1 addresses", "pairs"),
    ("{dhcp: [{options: {router: []}}]}", "has 0 addresses", "or a list"),
    ("{dhcp: [{options: {interface_mtu: 70000}}]}", "from 0 to 65535, not `70000`", ""),
    ("{dhcp: [{options: {ip_forwarding: maybe}}]}", "must be true or false", ""),
    ("{dhcp: [{options: {224: 5}}]}", "nobody knows how long this number is", "[1] for a byte"),
    ("{dhcp: [{options: {224: [1, 256]}}]}", "from 0 to 255, not `256`", ""),
    ("{fastboot: {bass: 1}}", "has no field `bass`", "did you mean `base`?"),
    ("{fastboot: {base: -1}}", "from 0 to", ""),
    ("{fastboot: {base: '0x1'}}", "whole number", "without quotes"),
    ("{fastboot: {pagesize: 5000}}", "pagesize` cannot be 5000", "4096"),
    ("{fastboot: {os_version: 12.x}}", "os_version` cannot be `12.x`", "A.B.C"),
    ("{fastboot: {os_patch_level: 2026-13}}", "os_patch_level` cannot be", "2026-11"),
    ("{fastboot: {board: sixteen-letters-x}}", "board` cannot be", "15 letters"),
    ("{fastboot: {boot_image: {}}}", "has no source", ""),
];

#[test]
fn what_is_wrong_with_dhcp_and_fastboot_is_told_at_its_line_with_a_remedy() {
    for (written, message, help) in REFUSED {
        let checked = look(&format!("version: 1\ndeployment:\n  start: {written}\n"));
        if message.is_empty() {
            assert_eq!(checked.problems, [], "{written}");
            continue;
        }
        let found = checked.problems.iter().find(|p| p.message.contains(message));
        let problem = found.unwrap_or_else(|| panic!("{written}: {:?}", checked.problems));
        assert!(problem.help.as_deref().unwrap_or_default().contains(help), "{written}: {problem}");
        assert_eq!(problem.place.unwrap().line, 3, "{written}");
        assert_eq!(checked.problems.len(), 1, "{written}: {:?}", checked.problems);
    }
}

#[test]
fn endpoints_are_a_host_and_a_port() {
    for wrong in ["host", "host:0", "'host:'", "http://h:1", "'::1:1'"] {
        let checked = look(&format!("version: 1\nproxy: {{allowed_endpoints: [ok:1, {wrong}]}}\n"));
        assert_eq!(checked.problems.len(), 1, "{wrong}");
        assert!(checked.problems[0].message.contains("must be a host and a port"), "{}", checked.problems[0]);
    }
    assert!(
        look("version: 1\nproxy: {allowed: []}\n").problems[0]
            .help
            .as_deref()
            .unwrap()
            .contains("allowed_endpoints")
    );
    let job =
        good("version: 1\nproxy: {allowed_endpoints: {b: ['b:1'], a: 'a:1', ':uncategorised': 'z:1'}}\n");
    assert_eq!(job.proxy.allowed_endpoints.iter().map(|e| e.host.as_str()).collect::<String>(), "abz");
}

/// (the job after its first line, what the warning says, its line)
const WARNED: [(&str, &str, usize); 19] = [
    (
        "deployment:\n  start: {kernel: {cmdline: {test: a}}}\n  continue:\n    kernel: {cmdline: {test: }}",
        "`deployment.continue.kernel.cmdline.test` is empty (is a variable not defined?): it drops the category `test` of `start`",
        5,
    ),
    (
        "deployment:\n  start: {initramfs: {base: {data: x}}}\n  continue: {initramfs: {bsae: {data: y}}}",
        "replaces nothing: `start` has no such category, but one named `base`",
        4,
    ),
    (
        "deployment:\n  start: {storage: {tftp: {base: {path: /a, data: x}}}}\n  continue: {storage: {tftp: {base: ~}}}",
        "drops the category `base`",
        4,
    ),
    ("deployment: {start: {dhcp: [{match: {uuid: x}}]}}", "it offers nothing", 2),
    (
        "deployment: {start: {dhcp: [{match: {architecture: x86-64}, options: {12: x}}]}}",
        "`x86-64` never fits; did you mean `x86_64`?",
        2,
    ),
    (
        "deployment: {start: {dhcp: [{match: {firmware: u-boot}, options: {12: x}}]}}",
        "`u-boot` never fits; did you mean `uboot`?",
        2,
    ),
    (
        "deployment: {start: {dhcp: [{match: {protocol: nfs}, options: {12: x}}]}}",
        "`nfs` never fits; known: http, tftp",
        2,
    ),
    (
        "deployment: {start: {dhcp: [{match: {uuid: '*'}, options: {12: x}}]}}",
        "`*` is no regex, it is only compared",
        2,
    ),
    (
        "deployment: {start: {dhcp: [{match: {mac_address: 'B8:27:EB:.*'}, options: {12: x}}]}}",
        "compared in lower case",
        2,
    ),
    ("deployment: {start: {dhcp: [{options: {12: }}]}}", "`deployment.start.dhcp.options.12` is empty", 2),
    ("deployment: {start: {fastboot: {header_version: 5}}}", "4 is the newest", 2),
    ("console_patterns: {job_warn: {regex: x}}", "`job_warn` means nothing without `job_success`", 2),
    (
        "console_patterns: {session_reboot: {regex: x}}",
        "`session_reboot` ends the job, because `timeouts.boot_cycle` allows no reboot",
        2,
    ),
    (
        "timeouts: {console_activity: {retries: 2}}",
        "`timeouts.console_activity` has `retries`, but no length",
        2,
    ),
    (
        "timeouts: {overall: {hours: 1}, boot_cycle: {hours: 1}}",
        "`timeouts.boot_cycle` is never hit: `overall` ends the job",
        2,
    ),
    ("timeouts: {firmware_boot: {days: 1}}", "`timeouts.firmware_boot` is never hit", 2),
    (
        "timeouts: {watchdogs: {w: {hours: 7}}}\nconsole_patterns: {watchdogs: {w: {start: {regex: x}}}}",
        "`timeouts.watchdogs.w` is never hit",
        2,
    ),
    (
        "timeouts: {watchdogs: {w: {hours: 1}}}\nconsole_patterns: {job_success: {regex: x}}",
        "watchdog `w` has a timeout, but no patterns",
        3,
    ),
    ("console_patterns: {watchdogs: {w: {start: {regex: x}}}}", "watchdog `w` has no timeout", 2),
];

#[test]
fn what_is_hardly_meant_is_a_warning_at_its_line() {
    for (text, message, line) in WARNED {
        let checked = look(&format!("version: 1\n{text}\n"));
        assert_eq!(checked.problems, [], "{text}");
        let told: Vec<_> = checked.warnings.iter().map(|w| w.message.as_str()).collect();
        assert!(told.len() == 1 && told[0].contains(message), "{text}: {told:?}");
        assert_eq!(checked.warnings[0].place.unwrap().line, line, "{text}");
    }
}

#[test]
fn what_is_written_on_purpose_is_no_warning() {
    for text in [
        "deployment: {start: {kernel: {cmdline: {test: a}}}, continue: {kernel: {cmdline: {test: []}}}}",
        "deployment: {start: {kernel: {cmdline: {a: x}}}, continue: {kernel: {cmdline: {resume: y}}}}",
        "timeouts: {boot_cycle: {retries: 2}}\nconsole_patterns: {session_reboot: {regex: x}}",
        "timeouts: {overall: {retries: 0}, boot_cycle: {days: 9}}",
    ] {
        let checked = look(&format!("version: 1\n{text}\n"));
        assert_eq!((checked.problems, checked.warnings), (vec![], vec![]), "{text}");
    }
}
