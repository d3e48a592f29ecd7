# It stops in the middle of a line. The second boot does, too.
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
  +1 bytes 31
  +62 stage dhcp
  +1 lines 8
  +1 rest
  +70 silence
expected:
  plan start
  timeout console_activity
  plan continue
  timeout console_activity
  verdict INCOMPLETE timeout (console_activity)
  summary the session did not end: the timeout console_activity of 60 s was hit, 2 times in this job
  attempt 1 start: timeout console_activity (dhcp)
  attempt 2 continue: timeout console_activity (dhcp)
