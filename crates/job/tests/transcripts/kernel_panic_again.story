# It panics at each boot: one reboot is allowed.
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
  +1 lines 20
  +3 stage dhcp
  +1 rest
expected:
  plan start
  matched job_warn
  matched session_reboot
  plan continue
  matched job_warn
  matched session_reboot
  verdict INCOMPLETE timeout (boot_cycle)
  summary the job asked for one more boot, but timeouts.boot_cycle.retries allows 1
  attempt 1 start: session_reboot (dhcp)
  attempt 2 continue: session_reboot without retries left (dhcp)
