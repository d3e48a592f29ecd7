# Recorded from QEMU on a busy computer: the timer of the kernel does not work, so it panics after a twentieth of a second
# and reboots.
job:
  version: 1
  timeouts: {overall: {minutes: 10}, boot_cycle: {minutes: 5, retries: 1}}
  console_patterns:
    session_end: {regex: '^\[[\d \.]{12}\] reboot: Power down\r?$'}
    session_reboot: {regex: 'Rebooting in \d+ seconds'}
    job_success: {regex: 'pipeline status: 0'}
    job_warn: {regex: 'Kernel panic - not syncing: (VFS|IO-APIC)'}
steps:
  +1 lines 20
  +5 rest
  +1 cancel ada
expected:
  plan start
  matched job_warn
  matched session_reboot
  plan continue
  verdict INCOMPLETE cancelled by ada
  summary the job was cancelled by ada
  attempt 1 start: session_reboot (no stage)
  attempt 2 continue: cancelled (no stage)
