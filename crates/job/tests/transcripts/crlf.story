# `$` matches before a newline, not before `\r\n`: a pattern without `\r` never matches on a serial line.
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
  matched job_warn
  matched session_end
  verdict FAIL test failed
  summary the session ended without the success pattern
  attempt 1 start: session_end (no stage)
