# Colours and cursor movements stand in the line as they came: `^` is in front of them all, so that this success is missed.
job:
  version: 1
  console_patterns:
    session_end: {regex: '\x1b\[1;32mdone\x1b\[0m'}
    job_success: {regex: '^\x1b\[2K\[\s*OK\s*\]'}
    job_warn: {regex: 'WARN(?!\x1b)'}
steps:
  +1 rest
expected:
  plan start
  matched session_end
  verdict FAIL test failed
  summary the session ended without the success pattern
  attempt 1 start: session_end (no stage)
