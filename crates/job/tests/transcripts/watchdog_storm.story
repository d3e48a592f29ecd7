# Thousands of resets in a second, and stops between: the last word counts.
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
  +1 rest
  +17 silence
  +2 silence
  +1 cancel ada
expected:
  plan start
  matched gpu.start
  matched gpu.reset x3000
  matched gpu.stop x3
  matched gpu.start
  matched gpu.reset x50
  timeout watchdogs.gpu
  plan continue
  verdict INCOMPLETE cancelled by ada
  summary the job was cancelled by ada
  attempt 1 start: timeout watchdogs.gpu (no stage)
  attempt 2 continue: cancelled (no stage)
