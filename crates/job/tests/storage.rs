//! What a job puts at a machine's disposal: files by path, images, block devices.

use std::collections::BTreeMap;

use farmgate_job::{
    Artifact, Backing, BlockDevice, Checked, ContainerImage, Job, PullPolicy, Source, Variables, check,
};

fn look(storage: &str) -> Checked<Job> {
    let text = format!("version: 1\ndeployment:\n  start:\n    storage: {storage}\n");
    check(&Source { name: "job.yml", text: &text }, &Variables::default())
}

fn good(storage: &str) -> farmgate_job::Storage {
    let checked = look(storage);
    assert_eq!(checked.problems, [], "{storage}");
    checked.value.unwrap_or_else(|| panic!("no value: {storage}")).start.storage
}

#[test]
fn a_file_is_found_by_its_path_and_its_address_takes_the_groups() {
    let storage = good(r"{tftp: [{path: '/dtbs/(?P<board>.*)\.dtb', url: 'https://h/\1/\g<board>'}]}");
    let file = &storage.tftp[0];
    assert!(file.path.fits("/dtbs/x.dtb") && !file.path.fits("/dtbs/x"));
    let Artifact::Url(url) = &file.artifact else { panic!("{file:?}") };
    assert_eq!(file.path.rewrite("/dtbs/x.dtb", url).as_deref(), Some("https://h/x/x"));
}

#[test]
fn groups_of_the_path_reach_into_archives() {
    let storage = good(
        r"{tftp: {path: '/(.*)', url: http://h/f.zip, format: [{archive: {match: 'firmware-.*/boot/\1'}}]}, http: [{path: '/x/(.*)', archive: {extension: zip, add: [{path: 'm/\1', artifact: {url: 'http://h/\1'}}]}}]}",
    );
    assert_eq!((storage.tftp.len(), storage.http.len()), (1, 1));
}

#[test]
fn what_has_no_category_goes_first() {
    let storage = good(
        "{http: {b: {path: /b, data: x}, a: {path: /a, data: x}, ':uncategorised': [{path: /z, data: x}, {path: /y, data: x}]}}",
    );
    let order: Vec<_> = storage.http.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(order, ["/z", "/y", "/a", "/b"]);
}

#[test]
fn images_and_block_devices_have_their_defaults() {
    let storage = good(
        "{imagestore: {public: {images: {one: {name: 'docker://r.example.org:5000/g/i:t'}, two: {name: alpine, tls_verify: 'false', platform: linux/arm/v7, pull: missing}}}}, nbd: {swap: {size: 10GB}, root: {url: http://h/d, readonly: yes, max_connections: 5}}}",
    );
    let image = |name: &str, tls_verify, platform: &str, pull| ContainerImage {
        name: name.into(),
        tls_verify,
        platform: platform.into(),
        pull,
    };
    let images = BTreeMap::from([
        (
            "one".into(),
            image("docker://r.example.org:5000/g/i:t", true, "linux/amd64", PullPolicy::RelaxedAlways),
        ),
        ("two".into(), image("alpine", false, "linux/arm/v7", PullPolicy::Missing)),
    ]);
    assert_eq!(storage.images, images);
    let nbd = BTreeMap::from([
        (
            "swap".into(),
            BlockDevice { backing: Backing::Size(10_000_000_000), readonly: false, max_connections: None },
        ),
        (
            "root".into(),
            BlockDevice {
                backing: Backing::Url("http://h/d".into()),
                readonly: true,
                max_connections: Some(5),
            },
        ),
    ]);
    assert_eq!(storage.nbd, nbd);
}

/// (`storage`, what the message says, what the help says)
const REFUSED: [(&str, &str, &str); 36] = [
    ("{htp: []}", "has no field `htp`", "did you mean `http`?"),
    ("{http: [{data: x}]}", "a file of `deployment.start.storage.http` has no `path`", "path: /config.txt"),
    ("{http: [{path: /x}]}", "has no source", "`url`, `data` or `archive`"),
    ("{http: [{path: x, data: y}]}", "must be absolute, not `x`", "begin it with `/`"),
    ("{http: [{path: '', data: y}]}", "must be absolute", "begin it with `/`"),
    ("{http: [{path: '(/a|/b)', data: y}]}", "must be absolute", "begin it with `/`"),
    ("{http: [{path: /_/x, data: y}]}", "the gateway's own", "another folder"),
    ("{http: [{path: '/a(', data: y}]}", "is not closed", "Python regex"),
    ("{tftp: [{path: '/a**', data: y}]}", "storage.tftp.path`", ""),
    (
        r"{http: [{path: '/a', url: 'http://h/\1'}]}",
        r"uses `\1`, but the `path` has no group",
        "into brackets",
    ),
    (
        r"{http: [{path: '/(a)(b)', url: 'http://h/\3'}]}",
        r"uses `\3`, but the `path` has only 2 groups",
        "into brackets",
    ),
    (r"{http: [{path: '/(?P<n>a)', url: 'http://h/\g<m>'}]}", r"uses `\g<m>`", "into brackets"),
    (
        r"{http: [{path: '/(a)', archive: {extension: tar, add: [{path: '\2', artifact: {data: x}}]}}]}",
        r"uses `\2`",
        "into brackets",
    ),
    (
        r"{http: [{path: '/(a)', archive: {extension: tar, add: [{path: x, artifact: {url: 'http://h/\2'}}]}}]}",
        r"uses `\2`",
        "into brackets",
    ),
    ("{http: [{path: /a, data: x, lifetime: 1}]}", "has no field `lifetime`", "known fields: path, url"),
    ("{http: [x]}", "must be a mapping, not `x`", ""),
    ("{http: {pth: /x}}", "the category `pth` must be a mapping", "did you mean the field `path`?"),
    ("{imagestore: {private: {}}}", "has no field `private`", "known fields: public"),
    ("{imagestore: {public: {image: {}}}}", "has no field `image`", "did you mean `images`?"),
    ("{imagestore: {public: {images: [a]}}}", "must be a mapping, not a list", "NAME: {name:"),
    ("{imagestore: {public: {images: {a: {}}}}}", "images.a` has no `name`", "registry/image:tag"),
    (
        "{imagestore: {public: {images: {a/b: {name: x}}}}}",
        "an image cannot be named `a/b`",
        "letters, digits",
    ),
    (
        "{imagestore: {public: {images: {a: {name: 'x --y'}}}}}",
        "is no name of an image",
        "registry/image:tag",
    ),
    (
        "{imagestore: {public: {images: {a: {name: 'http://x'}}}}}",
        "is no name of an image",
        "registry/image:tag",
    ),
    ("{imagestore: {public: {images: {a: {name: 'x?y'}}}}}", "is no name of an image", "registry/image:tag"),
    ("{imagestore: {public: {images: {a: {name: x, platform: arm}}}}}", "is no platform", "linux/arm64"),
    ("{imagestore: {public: {images: {a: {name: x, tls_verify: 2}}}}}", "must be true or false, not `2`", ""),
    (
        "{imagestore: {public: {images: {a: {name: x, pull: never}}}}}",
        "pull` cannot be `never`",
        "always, relaxed_always, missing",
    ),
    ("{nbd: {a: {}}}", "has neither `url` nor `size`", "for an empty one"),
    ("{nbd: {a: {url: http://h/d, size: 1G}}}", "has both `url` and `size`", "keep `url`"),
    ("{nbd: {a: {size: 1 G}}}", "is no size: `1 G`", "512M"),
    ("{nbd: {a: {size: 0}}}", "is no size", "512M"),
    ("{nbd: {a: {size: 99999999P}}}", "is no size", "512M"),
    ("{nbd: {a-b: {size: 1G}}}", "a block device cannot be named `a-b`", "letters, digits"),
    ("{nbd: {a: {size: 1G, max_connections: 0}}}", "must be a whole number from 1 to 65535", ""),
    ("{nbd: {a: {url: '/dev/sda'}}}", "no address that can be fetched", "https://"),
];

#[test]
fn what_is_wrong_with_storage_is_told_at_its_line_with_a_remedy() {
    for (written, message, help) in REFUSED {
        let checked = look(written);
        let found = checked.problems.iter().find(|p| p.message.contains(message));
        let problem = found.unwrap_or_else(|| panic!("{written}: {:?}", checked.problems));
        assert!(problem.help.as_deref().unwrap_or_default().contains(help), "{written}: {problem}");
        assert_eq!(problem.place.unwrap().line, 4, "{written}");
        assert_eq!(checked.problems.len(), 1, "{written}: {:?}", checked.problems);
    }
}

#[test]
fn what_is_hardly_meant_of_storage_is_a_warning() {
    for (written, message) in [
        ("{http: [{path: /a, data: x}, {path: /a, data: y}]}", "has `/a` twice, first on line 4"),
        ("{nbd: {a: {size: 1G, readonly: true}}}", "empty and read-only"),
    ] {
        let checked = look(written);
        assert_eq!(checked.problems, [], "{written}");
        let warnings: Vec<_> = checked.warnings.iter().map(|w| w.message.as_str()).collect();
        assert!(warnings.len() == 1 && warnings[0].contains(message), "{written}: {warnings:?}");
    }
}
