//! Firmware other than the BIOS of the walk-through, and machines that do not boot.

use farmgate_e2e::{TestFarm, qualified};

const HELLO: &str = include_str!("../../jobs/examples/hello.yml");

fn no_quick_check(env: &mut Vec<(String, String)>) {
    env.push(("SERGENT_HARTMAN_QUICK_CHECK".to_owned(), "disabled".to_owned()));
}

#[test]
fn a_uefi_machine_boots_by_pxe_and_ipxe_and_runs_a_job() {
    let farm = TestFarm::start(Some(&format!("duts:\n{}", qualified(1))), |options| {
        no_quick_check(&mut options.env);
        // The initramfs for everyone is of no use; that for this boot loader, architecture and platform is.
        options.env.push(("BOOTS_DEFAULT_INITRD".to_owned(), "/etc/hosts".to_owned()));
        let initramfs = options.initramfs().display().to_string();
        options.env.push(("BOOTS_DEFAULT_IPXE_X86_64_EFI_INITRD".to_owned(), initramfs));
        options.vpdu_arguments.push("--firmware=uefi".to_owned());
    });
    farm.wait_for_state(1, "IDLE");
    let job = HELLO.replace("uname -sr", "uname -sr; ls -d /sys/firmware/efi");
    let said = farm.job(&job, &["-t", "virtio:family:VIRTIO"]);
    assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
    assert!(
        said.out.contains("\n/sys/firmware/efi") || said.out.contains("\r\n/sys/firmware/efi"),
        "{}",
        said.out
    );
    let log = std::fs::read_to_string(farm.path("log/farmgate.log")).unwrap_or_default();
    assert!(log.contains("snponly.efi"), "its iPXE came over TFTP: {log}");
    farm.stop();
}

#[test]
fn a_machine_that_never_boots_makes_its_job_incomplete_and_the_reason_is_told() {
    // As a training leaves it: jobs wait for 2.5 times that, at least 5 s, and try three times more.
    let farm_file = format!("duts:\n{}    firmware_boot_time: 2.2\n", qualified(3));
    let farm = TestFarm::start(Some(&farm_file), |options| {
        no_quick_check(&mut options.env);
        options.vpdu_arguments.push("--outlet-fault=3=noboot".to_owned());
    });
    farm.wait_for_state(3, "IDLE");
    let said = farm.job(HELLO, &[]);
    assert_eq!(said.code, 4, "{}\n{}", said.out, said.err);
    assert_eq!(said.out.lines().last(), Some("INCOMPLETE"));
    assert!(said.err.contains("network"), "the reason is told: {}", said.err);
    let off = farm.vpductl(&["--outlet", "3", "--status"]);
    assert!(off.out.to_uppercase().contains("OFF"), "{}", off.out);
    farm.stop();
}
