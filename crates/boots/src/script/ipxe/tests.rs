use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::Content;

fn plan(cmdline: &str, initrds: usize) -> BootPlan {
    BootPlan {
        console_id: "52:54:00:11:22:01".to_owned(),
        kernel: Content::Bytes(Bytes::from_static(b"k")),
        initrds: vec![Content::Bytes(Bytes::from_static(b"i")); initrds],
        cmdline: cmdline.to_owned(),
    }
}

fn request(platform: &str, buildarch: &str) -> ScriptRequest {
    ScriptRequest { platform: Some(platform.to_owned()), buildarch: Some(buildarch.to_owned()) }
}

#[test]
fn the_script_of_a_bios_machine() {
    let script = boot_script(&plan("console=ttyS0 x=\"a;b\" ; &", 2), &request("pcbios", "i386")).unwrap();
    let expected = "\
#!ipxe
imgfree
set console-id:uristring 52:54:00:11:22:01
echo SALAD.machine_id=${console-id:string}
set cmdline0:uristring console=ttyS0 x=%22a%3bb%22 %3b %26
set tries:int32 0
:kernel
kernel --name BOOT_IMAGE=kernel kernel?platform=${platform}&buildarch=${buildarch} ${cmdline0:string} && goto kernel-loaded ||
inc tries
iseq ${tries} 30 && goto failed ||
echo farmgate: no kernel yet, try ${tries} of 30
sleep 2
goto kernel
:kernel-loaded
set tries:int32 0
:initrd
initrd --name initrd initrd?platform=${platform}&buildarch=${buildarch} && goto initrd-loaded ||
inc tries
iseq ${tries} 30 && goto failed ||
echo farmgate: no initrd yet, try ${tries} of 30
sleep 2
goto initrd
:initrd-loaded
boot BOOT_IMAGE=kernel ||
echo farmgate: the kernel did not start
:failed
echo farmgate: giving up, restarting the machine
sleep 5
reboot || exit 1
";
    assert_eq!(script, expected);
}

#[test]
fn uefi_alone_names_the_initrd_and_only_if_there_is_one() {
    let with = boot_script(&plan("quiet", 1), &request("efi", "x86_64")).unwrap();
    assert!(with.contains("&buildarch=${buildarch} initrd=initrd ${cmdline0:string} &&"), "{with}");
    let without = boot_script(&plan("quiet", 0), &request("efi", "x86_64")).unwrap();
    assert!(!without.contains("initrd"), "{without}");
}

#[test]
fn the_script_of_a_machine_that_shall_boot_nothing() {
    let expected = "\
#!ipxe
set reason:uristring retired%3b ask %24 %7bme%7d %26%26 reboot
echo farmgate: ${reason:string}
isset ${refusals} || set refusals:int32 0
:again
inc refusals
iseq ${refusals} 60 && goto end ||
sleep 5
chain --replace --autofree boot.ipxe?platform=${platform}&buildarch=${buildarch} ||
goto again
:end
echo farmgate: nothing to boot, leaving network boot
exit 1
";
    assert_eq!(refusal_script("retired; ask ${me} &&\nreboot"), expected);
}

#[test]
fn what_cannot_pass_is_refused_in_words() {
    let bios = request("pcbios", "x86_64");
    assert_eq!(boot_script(&plan("a\0b", 0), &bios), Err(ScriptError::Zero));
    let whole = boot_script(&plan("a b=${HOME}", 0), &bios).unwrap_err();
    assert_eq!(whole, ScriptError::Expansion("${HOME}".to_owned()));
    assert!(whole.to_string().contains("takes every ${...} for its own"), "{whole}");
    assert!(boot_script(&plan(&"x".repeat(2047), 0), &bios).is_ok());
    assert_eq!(
        boot_script(&plan(&"x".repeat(2048), 0), &bios),
        Err(ScriptError::TooLong { length: 2048, limit: 2047 })
    );
    assert!(
        boot_script(&plan(&"x".repeat(2020), 1), &request("efi", "x86_64")).is_err(),
        "the loader adds words"
    );
    assert!(boot_script(&plan(&"x".repeat(2048), 0), &request("efi", "arm64")).is_ok());
    let id = BootPlan { console_id: "a${b".to_owned(), ..plan("", 0) };
    assert!(matches!(boot_script(&id, &bios), Err(ScriptError::ConsoleId(_))));
}

#[test]
fn braces_with_a_blank_inside_are_cut_there() {
    assert_eq!(pieces("a ${b c} d").unwrap(), ["a ${b", "c} d"]);
    assert_eq!(pieces("${ ${ x }}").unwrap(), ["${ ${", "x }}"]);
    assert_eq!(pieces("$x ${ {y}").unwrap(), ["$x ${", "{y}"]);
    assert_eq!(pieces("}${").unwrap(), ["}${"]);
    assert!(pieces("").unwrap().is_empty());
}

/// What iPXE makes of a line: words, settings replaced until none is left, words joined by a blank.
fn through_ipxe(cmdline: &str) -> Result<String, ScriptError> {
    let mut words = Vec::new();
    for piece in pieces(cmdline)? {
        let line = encode(piece);
        let tokens: Vec<&str> = line.split_ascii_whitespace().collect();
        assert!(tokens.iter().all(|t| !["&&", "||", ";"].contains(t) && !t.starts_with('#')), "{line}");
        assert!(!line.ends_with('\\') && !line.contains("${"), "{line}");
        let mut decoded = Vec::new();
        let joined = tokens.join(" ");
        let mut rest = joined.as_bytes();
        while let Some((byte, tail)) = rest.split_first() {
            if *byte == b'%' {
                decoded.push(u8::from_str_radix(std::str::from_utf8(&tail[..2]).unwrap(), 16).unwrap());
                rest = &tail[2..];
            } else {
                decoded.push(*byte);
                rest = tail;
            }
        }
        let word = String::from_utf8(decoded).unwrap();
        assert_eq!(expansion(&word), None, "iPXE would replace this");
        words.push(word);
    }
    Ok(words.join(" "))
}

proptest! {
    #[test]
    fn a_command_line_passes_ipxe_unchanged_or_is_refused(
        cmdline in "[a-z =;&|#$\\{\\}\"'\\\\%:\\t\\n\u{e9}]{0,60}",
    ) {
        match through_ipxe(&cmdline) {
            Ok(passed) => prop_assert_eq!(passed, cmdline),
            Err(error) => prop_assert!(matches!(error, ScriptError::Expansion(_))),
        }
    }
}
