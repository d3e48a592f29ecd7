# The machine says that it must not serve; whatever else it says does not matter.
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
    machine_unfit_for_service: {regex: 'GPU fell off the bus'}
steps:
  +2 stage dhcp
  +1 rest
expected:
  plan start
  matched job_success
  matched machine_unfit_for_service
  unfit
  verdict INCOMPLETE infrastructure
  summary the machine says that it is unfit for service: [    0.013337] amdgpu: GPU fell off the bus
  attempt 1 start: machine_unfit_for_service (dhcp)
