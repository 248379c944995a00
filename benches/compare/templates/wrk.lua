-- One fixed request (wrk renders it once), and a result line that a program can read.
{{headers}}

function done(summary)
  local e = summary.errors
  local form = 'RESULT {"requests":%d,"micros":%d,'
    .. '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n'
  io.write(string.format(form, summary.requests, summary.duration,
    e.connect, e.read, e.write, e.status, e.timeout))
end
