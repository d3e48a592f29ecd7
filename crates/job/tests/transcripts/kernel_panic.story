# The kernel panics, which the job wants to be booted again for; the second boot passes. What was seen of the
# first stays, because the job asked for the boot: the oops warns. The second line with `Kernel panic` is of a boot that
# is over.
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
  +1 lines 8
  +9 lines 12
  +3 stage dhcp
  +1 rest
expected:
  plan start
  matched job_warn
  matched session_reboot
  plan continue
  matched job_success
  matched session_end
  verdict WARN test passed
  summary the success pattern was seen and the session ended, but the warning pattern was seen too
  attempt 1 start: session_reboot (dhcp)
  attempt 2 continue: session_end (dhcp)
