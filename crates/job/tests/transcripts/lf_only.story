# The same job on a console without `\r`.
job:
  version: 1
  console_patterns:
    session_end: {regex: 'END\r?$'}
    job_success: {regex: 'GOOD$'}
    job_warn: {regex: 'GOOD\r$'}
steps:
  +1 rest
expected:
  plan start
  matched job_success
  matched session_end
  verdict PASS test passed
  summary the success pattern was seen and the session ended
  attempt 1 start: session_end (no stage)
