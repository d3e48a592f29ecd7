# A progress bar that never ends its line: 64 KiB are a line. What crosses the cut is in neither piece.
job:
  version: 1
  console_patterns:
    session_end: {regex: 'END'}
    job_success: {regex: 'GOOD'}
    job_warn: {regex: 'needle'}
steps:
  +1 rest
expected:
  plan start
  matched job_success
  said A console line is longer than 65536 bytes: patterns see it in pieces
  matched session_end
  verdict PASS test passed
  summary the success pattern was seen and the session ended
  attempt 1 start: session_end (no stage)
