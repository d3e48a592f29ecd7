# Whoever waited has left.
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
  +1 rest
  +1 client gone
expected:
  plan start
  verdict INCOMPLETE cancelled by the client
  summary the client went away
  attempt 1 start: cancelled (dhcp)
