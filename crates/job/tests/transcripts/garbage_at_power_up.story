# A UART that powers up prints rubbish, with NUL bytes and halves of UTF-8, in front of the first line, in the
# middle of lines, and after the end of a line.
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
  +0.1 bytes 40
  +2 stage dhcp
  +1 rest
expected:
  plan start
  matched job_warn
  matched job_success
  matched session_end
  verdict WARN test passed
  summary the success pattern was seen and the session ended, but the warning pattern was seen too
  attempt 1 start: session_end (dhcp)
