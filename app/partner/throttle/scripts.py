"""The questions that `store.py` asks of Redis: each a script, so that it is one step for all
workers.

KEYS[1] is the feed's `clock`; after it come `live` and `counts` where they are needed. ARGV[1] is
how long keys are kept, ARGV[2] the feed. What is not of our making (a key of another kind, a number
that is none or cannot be) is taken for nothing: a number is never larger than a moment as far ahead
as keys are kept. So is what was noted while Redis' clock was wrong: a breaker open for longer than
it opens for, a slot further away than could have been reserved, a probe in the future.
"""

from __future__ import annotations

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local junk = 0
for _, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'none' and kind ~= (string.match(key, ':live$') and 'zset' or 'hash') then
    redis.call('DEL', key)
    junk = junk + 1
  end
end
local function sound(text)
  local value = tonumber(text or '')
  return value and value >= 0 and value <= now + ARGV[1] * 1000000 and value or nil
end
local function number(field) return sound(redis.call('HGET', KEYS[1], field)) or 0 end
local function keep() redis.call('EXPIRE', KEYS[1], ARGV[1]) end
local function tell(what, remaining)
  redis.call('PUBLISH', 'rowrelay:clock', string.format('%s %s %.0f', ARGV[2], what, remaining))
end
"""
"""Each script starts so."""

SYNC = (
    _NOW
    + """
local me, lease, hold_for = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local sent, failures, bucket_us, buckets = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local hold = number('hold')
if hold_for > 0 and now + hold_for > hold + tonumber(ARGV[10]) then
  hold = now + hold_for
  redis.call('HSET', KEYS[1], 'hold', string.format('%.0f', hold))
  keep()
  tell('hold', hold_for)
end
if redis.call('ZADD', KEYS[2], string.format('%.0f', now + lease), me) == 1 then tell('live', 0) end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))
redis.call('ZREMRANGEBYSCORE', KEYS[2], string.format('(%.0f', now + lease), '+inf')
redis.call('EXPIRE', KEYS[2], ARGV[1])
local live, rank = redis.call('ZRANGE', KEYS[2], 0, -1), 0
for _, name in ipairs(live) do if name < me then rank = rank + 1 end end
local bucket, total = math.floor(now / bucket_us), {sent = sent, failed = failures}
local counts = redis.call('HGETALL', KEYS[3])
for i = 1, #counts, 2 do
  local at, what = string.match(counts[i], '^(%d+):(%a+)$')
  at = tonumber(at or '')
  local count = sound(string.match(counts[i + 1], '^%d+$'))
  if at and count and total[what] and at > bucket - buckets and at <= bucket then total[what] = total[what] + count
  else redis.call('HDEL', KEYS[3], counts[i]) end
end
if sent > 0 and number('tripped') == 0 then
  redis.call('HINCRBY', KEYS[3], string.format('%.0f:sent', bucket), sent)
  redis.call('HINCRBY', KEYS[3], string.format('%.0f:failed', bucket), failures)
  redis.call('EXPIRE', KEYS[3], math.ceil(bucket_us * (buckets + 1) / 1000000))
end
local known = sound(redis.call('HGET', KEYS[1], 'in_a_row'))
local in_a_row = known or tonumber(ARGV[12])
if sent > failures then in_a_row = tonumber(ARGV[11]) else in_a_row = in_a_row + failures end
if in_a_row ~= (known or 0) then
  redis.call('HSET', KEYS[1], 'in_a_row', in_a_row)
  keep()
end
local succeeded = number('succeeded')
if number('tripped') > 0 and number('open') <= now and succeeded > 0 and succeeded >= number('probes')
    and now - number('probed_at') > tonumber(ARGV[13]) then
  redis.call('HSET', KEYS[1], 'tripped', 0, 'open', 0, 'reopened', 0, 'in_a_row', 0)
  in_a_row = 0
  tell('breaker', 0)
end
return {math.max(0, hold - now), math.max(0, number('open') - now), number('tripped'), number('generation'),
        number('reopened'), #live, rank, total.sent, total.failed, in_a_row, junk}
"""
)

TRIP = (
    _NOW
    + """
if number('tripped') ~= tonumber(ARGV[3]) then return 0 end
local generation = number('generation') + 1
redis.call('HSET', KEYS[1], 'generation', generation, 'tripped', generation, 'probes', 0, 'succeeded', 0,
           'open', string.format('%.0f', now + ARGV[4]), 'reopened', ARGV[5], 'in_a_row', 0)
redis.call('DEL', KEYS[2])
keep()
tell('breaker', 0)
return generation
"""
)

PROBE = (
    _NOW
    + """
if number('tripped') ~= tonumber(ARGV[3]) then return -1 end
local open, probes = number('open'), number('probes')
if open > now and open <= now + tonumber(ARGV[6]) then return 0 end
local since = math.abs(now - number('probed_at'))
if probes >= tonumber(ARGV[4]) and since > tonumber(ARGV[5]) then probes = number('succeeded') end
if probes >= tonumber(ARGV[4]) then return 0 end
redis.call('HSET', KEYS[1], 'probes', probes + 1, 'probed_at', string.format('%.0f', now))
return 1
"""
)

SETTLE = (
    _NOW
    + """
if number('tripped') ~= tonumber(ARGV[3]) then return 0 end
local succeeded = number('succeeded') + ARGV[4]
redis.call('HSET', KEYS[1], 'succeeded', succeeded)
if succeeded < tonumber(ARGV[5]) then return 0 end
redis.call('HSET', KEYS[1], 'tripped', 0, 'open', 0, 'reopened', 0, 'in_a_row', 0)
tell('breaker', 0)
return 1
"""
)

RESERVE = (
    _NOW
    + """
local interval, saved, count = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local due = number('due')
if due > now + 10 * (saved + tonumber(ARGV[6]) + count * interval) + tonumber(ARGV[8]) then due = 0 end
due = math.max(due, now + tonumber(ARGV[7]), now)
local first = due - saved - now
if first <= tonumber(ARGV[6]) then
  due = due + count * interval
  redis.call('HSET', KEYS[1], 'due', string.format('%.0f', due))
  keep()
end
return {math.floor(first), math.floor(due - now)}
"""
)
