# The sixth hang ends the job.
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
  +1 lines 3
  +18.5 silence
  +1 lines 3
  +18.5 silence
  +1 lines 3
  +18.5 silence
  +1 lines 3
  +18.5 silence
  +1 lines 3
  +18.5 silence
  +1 lines 3
  +18.5 silence
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
  timeout watchdogs.gpu
  verdict INCOMPLETE timeout (watchdogs.gpu)
  summary the session did not end: the timeout watchdogs.gpu of 18 s was hit, 6 times in this job
  attempt 1 start: timeout watchdogs.gpu (no stage)
  attempt 2 continue: timeout watchdogs.gpu (no stage)
  attempt 3 continue: timeout watchdogs.gpu (no stage)
  attempt 4 continue: timeout watchdogs.gpu (no stage)
  attempt 5 continue: timeout watchdogs.gpu (no stage)
  attempt 6 continue: timeout watchdogs.gpu (no stage)
