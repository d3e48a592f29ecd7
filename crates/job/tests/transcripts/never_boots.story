# The firmware never asks for the network: the farm's fault, after its four tries.
firmware learned 4.0
job:
  version: 1
  console_patterns: {session_end: {regex: END}}
steps:
  +5 rest
  +100 silence
expected:
  plan start
  timeout firmware_boot
  plan continue
  timeout firmware_boot
  plan continue
  timeout firmware_boot
  plan continue
  timeout firmware_boot
  verdict INCOMPLETE infrastructure
  summary the machine never asked to boot over the network within 10 s of power on, 4 times in this job
  attempt 1 start: timeout firmware_boot (no stage)
  attempt 2 continue: timeout firmware_boot (no stage)
  attempt 3 continue: timeout firmware_boot (no stage)
  attempt 4 continue: timeout firmware_boot (no stage)
