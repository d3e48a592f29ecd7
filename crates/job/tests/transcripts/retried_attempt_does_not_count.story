# The first boot succeeds, warns and hangs before its end; the second one fails. It failed.
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
  +1 lines 3
  +61 silence
  +1 rest
expected:
  plan start
  matched job_success
  matched job_warn
  timeout console_activity
  plan continue
  matched session_end
  verdict FAIL test failed
  summary the session ended without the success pattern
  attempt 1 start: timeout console_activity (no stage)
  attempt 2 continue: session_end (no stage)
