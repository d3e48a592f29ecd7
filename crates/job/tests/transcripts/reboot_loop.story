# The machine reboots by itself again and again, and prints all the while: only the time of a boot ends it.
job:
  version: 1
  timeouts:
    overall: {hours: 1}
    boot_cycle: {seconds: 100, retries: 2}
    console_activity: {seconds: 60}
  console_patterns:
    session_end: {regex: 'END'}
    job_success: {regex: 'GOOD'}
steps:
  +20 lines 6
  +20 lines 6
  +20 lines 6
  +20 lines 6
  +20 lines 6
  +20 lines 6
  +20 lines 6
  +20 lines 6
  +20 lines 6
  +20 lines 6
  +20 lines 6
  +20 lines 6
  +20 lines 6
  +20 lines 6
  +20 lines 6
  +20 lines 6
expected:
  plan start
  timeout boot_cycle
  plan continue
  timeout boot_cycle
  plan continue
  timeout boot_cycle
  verdict INCOMPLETE timeout (boot_cycle)
  summary the session did not end: the timeout boot_cycle of 100 s was hit, 3 times in this job
  attempt 1 start: timeout boot_cycle (no stage)
  attempt 2 continue: timeout boot_cycle (no stage)
  attempt 3 continue: timeout boot_cycle (no stage)
