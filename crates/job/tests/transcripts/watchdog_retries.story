# A watchdog of 0.3 minutes with 5 retries: five hangs are forgiven, and what hung boots printed does not count.
job:
  version: 1
  timeouts:
    watchdogs: {gpu: {minutes: 0.3, retries: 5}}
  console_patterns:
    session_end: {regex: 'all done\r$'}
    job_success: {regex: 'status: 0'}
    watchdogs:
      gpu:
        start: {regex: 'running test'}
        reset: {regex: 'test \d+ done'}
        stop: {regex: 'tests are over'}
steps:
  +1 lines 1
  +17 lines 1
  +17 lines 1
  +18 silence
  +1 lines 1
  +17 lines 1
  +17 lines 1
  +18 silence
  +1 lines 1
  +17 lines 1
  +17 lines 1
  +18 silence
  +1 lines 1
  +17 lines 1
  +17 lines 1
  +18 silence
  +1 lines 1
  +17 lines 1
  +17 lines 1
  +18 silence
  +1 lines 3
  +1 rest
expected:
  plan start
  matched gpu.start
  matched gpu.reset x2
  timeout watchdogs.gpu
  plan continue
  matched gpu.start
  matched gpu.reset x2
  timeout watchdogs.gpu
  plan continue
  matched gpu.start
  matched gpu.reset x2
  timeout watchdogs.gpu
  plan continue
  matched gpu.start
  matched gpu.reset x2
  timeout watchdogs.gpu
  plan continue
  matched gpu.start
  matched gpu.reset x2
  timeout watchdogs.gpu
  plan continue
  matched gpu.start
  matched gpu.reset x2
  matched gpu.stop
  matched job_success
  matched session_end
  verdict PASS test passed
  summary the success pattern was seen and the session ended
  attempt 1 start: timeout watchdogs.gpu (no stage)
  attempt 2 continue: timeout watchdogs.gpu (no stage)
  attempt 3 continue: timeout watchdogs.gpu (no stage)
  attempt 4 continue: timeout watchdogs.gpu (no stage)
  attempt 5 continue: timeout watchdogs.gpu (no stage)
  attempt 6 continue: session_end (no stage)
