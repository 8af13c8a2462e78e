-- spend: takes of a limit that holds in every window, wherever it begins; or gives back what was taken.
-- What was used is counted by sixtieths of the window. One counts until all of it has left, so the limit is never
-- exceeded, and a token needs 61 numbers, however much it asks.
-- ARGV: token id, meter, amount (negative gives back), limit, window in ms, the part that an amount is given back to
-- Returns {1 if it was taken or given back or 0, what is left, ms until all of it is free again, ms until the amount
--       fits or -1 if it never does, the part in which it was taken}
local key, amount, limit, window = k_spent(ARGV[1], ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local grain = window / 60
local now = now_ms()
local current = math.floor(now / grain)

if amount < 0 then
  local taken = tonumber(redis.call('HGET', key, ARGV[6]))
  if not taken then return {0, 0, 0, 0, ARGV[6]} end
  if taken + amount > 0 then redis.call('HSET', key, ARGV[6], taken + amount) else redis.call('HDEL', key, ARGV[6]) end
  return {1, 0, 0, 0, ARGV[6]}
end

local used, parts = 0, {}
for part, n in pairs(counts(key)) do
  if tonumber(part) < current - 60 then
    redis.call('HDEL', key, part)
  else
    parts[#parts + 1] = {tonumber(part), n}
    used = used + n
  end
end
table.sort(parts, function(a, b) return a[1] < b[1] end)

-- When a part stops counting: 60 others later than its own end.
local function wait_for(part) return math.ceil((part + 61) * grain - now) end

if used + amount > limit then
  local wait, left = -1, used
  for _, part in ipairs(parts) do
    left = left - part[2]
    if left + amount <= limit then wait = wait_for(part[1]); break end
  end
  return {0, math.max(0, limit - used), #parts > 0 and wait_for(parts[#parts][1]) or 0, wait, ''}
end
if amount > 0 then
  redis.call('HINCRBY', key, current, amount)
  redis.call('PEXPIRE', key, wait_for(current))
end
return {1, limit - used - amount, wait_for(current), 0, tostring(current)}
