# Our initramfs says when its userspace runs.
job:
  version: 1
  timeouts:
    overall: {hours: 1}
    boot_cycle: {minutes: 5, retries: 1}
    console_activity: {seconds: 60, retries: 1}
  console_patterns:
    session_end: {regex: '^\[[\d \.]{12}\] reboot: Power down\r?$'}
    session_reboot: {regex: 'Kernel panic - not syncing'}
    job_success: {regex: 'Execution is over, pipeline status: 0\r?$'}
    job_warn: {regex: 'ring .* timeout|Oops: '}
steps:
  +2 stage dhcp
  +0.3 stage initrd-done
  +1 rest
expected:
  plan start
  matched job_success
  matched session_end
  verdict PASS test passed
  summary the success pattern was seen and the session ended
  attempt 1 start: session_end (initrd-done, userspace)
