# The same lines while the machine is being switched off belong to nobody: the old session may go on until then.
job:
  version: 1
  timeouts:
    overall: {hours: 1}
    boot_cycle: {minutes: 5, retries: 1}
    console_activity: {seconds: 60, retries: 1}
  console_patterns:
    session_end: {regex: '^\[[\d \.]{12}\] reboot: Power down\r?$'}
    session_reboot: {regex: 'please boot me again'}
    job_success: {regex: 'Execution is over, pipeline status: 0\r?$'}
    job_warn: {regex: 'ring .* timeout|Oops: '}
steps:
  +1 rest
expected:
  plan start
  matched session_reboot
  plan continue
  no verdict: PoweringOn
