//! Artifacts and what is done to them: what is read, what is refused, and in which words.

use farmgate_job::{
    Archive, ArchiveCompression, ArchiveExtension, ArchiveFormat, ArchiveMember, Artifact, Checked, Format,
    Job, Keep, Source, UbootArchitecture, UbootCompression, UbootFormat, UbootOs, UbootType, Variables,
    check,
};

fn look(text: &str) -> Checked<Job> {
    check(&Source { name: "job.yml", text }, &Variables::default())
}

/// The kernel of a job whose kernel is written like this.
fn kernel(written: &str) -> Artifact {
    let checked = look(&format!("version: 1\ndeployment: {{start: {{kernel: {written}}}}}\n"));
    assert_eq!(checked.problems, [], "{written}");
    let kernel = checked.value.and_then(|job| job.start.kernel);
    kernel.unwrap_or_else(|| panic!("no kernel: {written}"))
}

fn url(text: &str) -> Artifact {
    Artifact::Url(text.to_owned())
}

#[test]
fn an_artifact_comes_from_an_address_from_the_job_or_is_packed() {
    assert_eq!(kernel("{url: 'https://h/k?x=1'}"), url("https://h/k?x=1"));
    assert_eq!(kernel("{data: ''}"), Artifact::Data(String::new()));
    let packed = Artifact::Archive(Archive {
        extension: ArchiveExtension::Cpio,
        compression: ArchiveCompression::Zstd,
        add: vec![
            ArchiveMember { path: "etc/one".into(), artifact: Artifact::Data("1".into()), mode: 0o100_644 },
            ArchiveMember { path: "bin/two".into(), artifact: url("http://h/two"), mode: 0o100_755 },
        ],
    });
    let written = "{archive: {extension: cpio, compression: zst, add: [{path: etc/one, artifact: {data: 1}}, {path: bin/two, artifact: {url: http://h/two}, mode: 0o755}]}}";
    assert_eq!(kernel(written), packed);
}

#[test]
fn a_pipeline_is_read_in_order() {
    let written = r"{url: http://h/k, format: [
        {archive: {match: 'boot/Image(\.gz)?'}},
        {archive: {extension: tar, compression: xz, keep: [{path: 'a/(.*)', rewrite: 'b/\1'}, {path: c}], add: {path: d, artifact: {data: x}}}},
        {uboot: {architecture: arm64, compression: gz, os: linux, type: kernel}},
        {uboot: }]}";
    let none = ArchiveFormat {
        extension: ArchiveExtension::None,
        compression: ArchiveCompression::None,
        keep: vec![Keep { path: r"boot/Image(\.gz)?".into(), rewrite: None }],
        add: vec![],
    };
    let tar = ArchiveFormat {
        extension: ArchiveExtension::Tar,
        compression: ArchiveCompression::Xz,
        keep: vec![
            Keep { path: "a/(.*)".into(), rewrite: Some(r"b/\1".into()) },
            Keep { path: "c".into(), rewrite: None },
        ],
        add: vec![ArchiveMember { path: "d".into(), artifact: Artifact::Data("x".into()), mode: 0o100_644 }],
    };
    let uboot = UbootFormat {
        architecture: Some(UbootArchitecture::Arm64),
        compression: Some(UbootCompression::Gzip),
        os: Some(UbootOs::Linux),
        kind: Some(UbootType::Kernel),
    };
    let found = kernel(written);
    assert_eq!(found.source(), &url("http://h/k"));
    assert_eq!(
        found.format(),
        [
            Format::Archive(none),
            Format::Archive(tar),
            Format::Uboot(uboot),
            Format::Uboot(UbootFormat::default())
        ]
    );
}

#[test]
fn a_pipeline_without_a_source_is_for_the_default_kernel_and_continue_inherits_it() {
    let text = "version: 1\ndeployment:\n  start: {kernel: {format: [{uboot: {type: kernel}}]}}\n  continue: {kernel: {url: http://h/k}}\n";
    let job = look(text).value.unwrap();
    assert_eq!((job.start.kernel, job.start.kernel_format.len()), (None, 1));
    assert_eq!(job.continue_.kernel.as_ref().map(|k| k.format().len()), Some(1));
    let text = "version: 1\ndeployment:\n  start: {kernel: {url: http://h/k, format: [{uboot: {}}]}}\n  continue: {kernel: {format: []}}\n";
    let job = look(text).value.unwrap();
    assert_eq!(job.start.kernel.unwrap().format().len(), 1);
    assert_eq!(job.continue_.kernel, Some(url("http://h/k")));
}

#[test]
fn modes_are_octal_however_they_are_written() {
    for (written, mode) in [
        ("0o644", 0o644),
        ("0755", 0o755),
        ("'0o600'", 0o600),
        ("'755'", 0o755),
        ("420", 0o644),
        ("33188", 0o644),
        ("0x1a4", 0o644),
    ] {
        let text = format!(
            "{{archive: {{extension: cpio, add: [{{path: a, artifact: {{data: x}}, mode: {written}}}]}}}}"
        );
        let Artifact::Archive(archive) = kernel(&text) else { panic!("{written}") };
        assert_eq!(archive.add[0].mode, 0o100_000 | mode, "{written}");
    }
}

/// (a kernel, what the message says, what the help says)
const REFUSED: [(&str, &str, &str); 37] = [
    ("{url: http://h/k, archive: {extension: cpio}}", "has two sources", "keep one of"),
    ("{url: http://h/k, data: x, archive: {extension: cpio}}", "has three sources", "keep one of"),
    ("{url: 'ftp://h/k'}", "no address that can be fetched", "https:// or http://"),
    ("{url: 'http://'}", "no address that can be fetched", "https:// or http://"),
    ("{url: 'http:///k'}", "no address that can be fetched", "https:// or http://"),
    ("{url: 'http://h/a b'}", "has a blank", "%20"),
    (r"{url: 'http://h\k'}", "has a backslash", "only below a `path`"),
    (r"{url: 'http://h/\1'}", "has a backslash", "only below a `path`"),
    ("{url: [x]}", "must be a text, not a list", ""),
    ("{archive: {extention: cpio}}", "has no field `extention`", "did you mean `extension`?"),
    ("{archive: {compression: gz}}", "does not say what archive to make", "extension: cpio"),
    ("{archive: {extension: none}}", "does not say what archive to make", "extension: cpio"),
    (
        "{archive: {extension: cpoi}}",
        "`deployment.start.kernel.archive.extension` cannot be `cpoi`",
        "did you mean `cpio`? known: none, cpio, iso, tar, zip",
    ),
    (
        "{archive: {extension: tar, compression: lzma}}",
        "compression` cannot be `lzma`",
        "known: none, gz, bz2, xz, zstd",
    ),
    ("{archive: {extension: tar, add: [{artifact: {data: x}}]}}", "has no `path`", "name in the archive"),
    (
        "{archive: {extension: tar, add: [{path: '', artifact: {data: x}}]}}",
        "has no `path`",
        "name in the archive",
    ),
    ("{archive: {extension: tar, add: [{path: a}]}}", "has no `artifact`", "artifact: {url: ...}"),
    (
        "{archive: {extension: tar, add: [{path: a, artifact: {}}]}}",
        "has no source",
        "`url`, `data` or `archive`",
    ),
    ("{archive: {extension: tar, add: [x]}}", "must be a mapping, not `x`", "path, artifact, mode"),
    (
        "{archive: {extension: tar, add: [{path: a, artifact: {data: x}, mode: rwx}]}}",
        "must be the permissions",
        "0o644",
    ),
    (
        "{archive: {extension: tar, add: [{path: a, artifact: {data: x}, mode: 0o40755}]}}",
        "must be the permissions",
        "0o644",
    ),
    (
        "{archive: {extension: tar, add: [{path: a, artifact: {data: x}, mode: -1}]}}",
        "must be the permissions",
        "0o644",
    ),
    ("{data: x, format: [{}]}", "says nothing", "archive: {...}"),
    ("{data: x, format: [{archive: {extension: tar}, uboot: {}}]}", "is two", "an item of its own"),
    ("{data: x, format: [gzip]}", "must be a mapping, not `gzip`", "archive, uboot"),
    ("{data: x, format: [{u_boot: {}}]}", "has no field `u_boot`", "did you mean `uboot`?"),
    ("{data: x, format: [{uboot: {arch: arm}}]}", "has no field `arch`", "did you mean `architecture`?"),
    (
        "{data: x, format: [{uboot: {architecture: arm46}}]}",
        "architecture` cannot be `arm46`",
        "did you mean `arm64`?",
    ),
    ("{data: x, format: [{uboot: {type: [kernel]}}]}", "type` cannot be a list", "ramdisk"),
    ("{data: x, format: [{archive: {match: a, keep: [{path: b}]}}]}", "has `match` and `keep`", "use `keep`"),
    (
        "{data: x, format: [{archive: {match: a, add: [{path: b, artifact: {data: y}}]}}]}",
        "has `match` and `add`",
        "use `keep`",
    ),
    (
        "{data: x, format: [{archive: {match: a, extension: tar}}]}",
        "has `match` and `extension`",
        "use `keep`",
    ),
    (
        "{data: x, format: [{archive: {keep: [{path: a}, {path: b}]}}]}",
        "does not say what archive to make of them",
        "`match`",
    ),
    (
        "{data: x, format: [{archive: {extension: tar, keep: [{path: '('}]}}]}",
        "is not closed",
        "matched whole",
    ),
    ("{data: x, format: [{archive: {extension: tar, keep: [{rewrite: b}]}}]}", "has no `path`", "regex"),
    (
        "{data: x, format: [{archive: {extension: tar, keep: [a]}}]}",
        "must be a mapping, not `a`",
        "{path: 'regex'}",
    ),
    (
        r"{data: x, format: [{archive: {extension: tar, keep: [{path: 'a(.)', rewrite: '\2'}]}}]}",
        r"uses `\2`, but the `path` has only one group",
        "into brackets",
    ),
];

#[test]
fn what_is_wrong_with_an_artifact_is_told_at_its_line_with_a_remedy() {
    for (written, message, help) in REFUSED {
        let checked = look(&format!("version: 1\ndeployment:\n  start:\n    kernel: {written}\n"));
        let found = checked.problems.iter().find(|p| p.message.contains(message));
        let problem = found.unwrap_or_else(|| panic!("{written}: {:?}", checked.problems));
        assert!(problem.help.as_deref().unwrap_or_default().contains(help), "{written}: {problem}");
        assert_eq!(problem.place.unwrap().line, 4, "{written}");
        assert_eq!(checked.problems.len(), 1, "{written}: {:?}", checked.problems);
    }
}

#[test]
fn what_is_hardly_meant_of_an_artifact_is_a_warning() {
    for (written, message) in [
        ("{url: , cmdline: x}", "kernel.url` is empty"),
        ("{url: http://h/k, archive: {}}", "kernel.archive` is empty"),
        ("{data: x, format: [{archive: {}}]}", "only undoes a compression"),
        (
            "{archive: {extension: cpio, add: [{path: a, artifact: {data: x}, mode: 755}]}}",
            "755 is decimal, which is 0o1363; write 0o755",
        ),
    ] {
        let checked = look(&format!("version: 1\ndeployment: {{start: {{kernel: {written}}}}}\n"));
        assert_eq!(checked.problems, [], "{written}");
        let warnings: Vec<_> = checked.warnings.iter().map(|w| w.message.as_str()).collect();
        assert!(warnings.len() == 1 && warnings[0].contains(message), "{written}: {warnings:?}");
    }
}
