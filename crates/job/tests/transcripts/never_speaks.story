# Not one line end after power on: the cable is in the wrong port.
job:
  version: 1
  timeouts:
    first_console_activity: {seconds: 30, retries: 1}
  console_patterns: {session_end: {regex: END}}
steps:
  +2 stage dhcp
  +10 rest
  +20 silence
  +40 silence
expected:
  plan start
  timeout first_console_activity
  plan continue
  timeout first_console_activity
  verdict INCOMPLETE timeout (first_console_activity)
  summary the session did not end: the timeout first_console_activity of 30 s was hit, 2 times in this job
  attempt 1 start: timeout first_console_activity (dhcp)
  attempt 2 continue: timeout first_console_activity (no stage)
