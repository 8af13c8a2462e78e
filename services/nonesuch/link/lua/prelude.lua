-- Stands before every script: key names (the same as keys.py) and the steps that several scripts share.
--
-- KEYS[1] is always the namespace. The keys below it are built here, so one Redis serves, not a Redis Cluster.
-- Counters of a ring's hash: `reserved` slots belong to tickets that were claimed and not yet committed; a ticket
-- is claimable only while a free slot is not reserved, which is why a commit never has to wait.

local NS = KEYS[1]
local K_NOTHING = NS .. ':nothing'

-- Redis at its maxmemory refuses a script's first write if it could take memory, but none after one that could not. What
-- takes memory are payloads, which are SET and refused; scripts move them and free them, and must go on.
redis.call('DEL', K_NOTHING)

local MAX_ATTEMPTS = 5
local MAX_BELL = 64
local PRIORITIES = {'interactive', 'bulk'}

local function k_order(id) return NS .. ':order:' .. id end
local function k_done(id) return k_order(id) .. ':done' end
local function k_returned(id) return k_order(id) .. ':returned' end
local function k_attempts(id) return k_order(id) .. ':attempts' end
local function k_minted(id, number) return k_order(id) .. ':minted:' .. number end
local function k_tally(id) return k_order(id) .. ':tally' end
local function k_open(priority) return NS .. ':open:' .. priority end
local K_LEASES = NS .. ':leases'
local K_DEADLINES = NS .. ':deadlines'
local K_BELL = NS .. ':bell'
local K_RINGS = NS .. ':rings'
local function k_ring(name) return NS .. ':ring:' .. name end
local function k_ready(name) return k_ring(name) .. ':ready' end
local function k_in_hand(name) return k_ring(name) .. ':in_hand' end
local function k_free(name) return k_ring(name) .. ':free' end
local function k_orders(name) return k_ring(name) .. ':orders' end
local function k_reader(name) return k_ring(name) .. ':reader' end
local function k_slot(name, number) return k_ring(name) .. ':slot:' .. number end
local function k_snapshots(channel) return NS .. ':snapshots:' .. channel end
local function k_pins(channel) return k_snapshots(channel) .. ':pins' end
local function k_snapshot(channel, version) return k_snapshots(channel) .. ':' .. version end
local function k_chunk(channel, version, i) return k_snapshot(channel, version) .. ':' .. i end
local function k_staged(channel, version, sha256, i) return k_snapshot(channel, version) .. ':' .. sha256 .. ':' .. i end
local K_CHANNELS = NS .. ':channels'
local function k_spent(token, meter) return NS .. ':spent:' .. token .. ':' .. meter end
local K_WORKERS = NS .. ':workers'
local function k_worker(id) return NS .. ':worker:' .. id end

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Wakes up to n idle workers. Too many rings of the bell only make a worker look once for nothing.
local function ring_bell(n)
  for _ = 1, math.min(n, MAX_BELL) do redis.call('RPUSH', K_BELL, '1') end
  redis.call('LTRIM', K_BELL, -MAX_BELL, -1)
end

local function delete_snapshot(channel, version)
  local chunks = tonumber(redis.call('HGET', k_snapshot(channel, version), 'chunks')) or 0
  for i = 0, chunks - 1 do redis.call('DEL', k_chunk(channel, version, i)) end
  redis.call('DEL', k_snapshot(channel, version))
  redis.call('ZREM', k_snapshots(channel), version)
end

-- Keeps the newest `keep` versions and those that an open order names.
local function trim_snapshots(channel, keep)
  local old = redis.call('ZRANGE', k_snapshots(channel), 0, -(keep + 1))
  for _, version in ipairs(old) do
    if redis.call('HEXISTS', k_pins(channel), version) == 0 then delete_snapshot(channel, version) end
  end
end

local function unpin(channel, version)
  if redis.call('HINCRBY', k_pins(channel), version, -1) <= 0 then
    redis.call('HDEL', k_pins(channel), version)
    local keep = tonumber(redis.call('HGET', k_snapshot(channel, version), 'keep'))
    if keep then trim_snapshots(channel, keep) end
  end
end

-- What the consumer of a ring took and never released is unread, in its order.
local function unread_again(name)
  while redis.call('LMOVE', k_in_hand(name), k_ready(name), 'RIGHT', 'LEFT') do end
end

-- Whether a ring is in these hands: the reader that began last, or '' where there is none (a trainer's ring, an export's).
local function is_reader(name, reader)
  return (redis.call('HGET', k_ring(name), 'reader') or '') == reader
end

-- The tickets of a ring's orders that one more worker could claim; those that wait for room are not among them.
local function claimable_in(name)
  local returned, fresh = 0, 0
  for _, id in ipairs(redis.call('SMEMBERS', k_orders(name))) do
    local o = redis.call('HMGET', k_order(id), 'left', 'outstanding')
    returned = returned + redis.call('LLEN', k_returned(id))  -- outstanding, and with a slot of their own
    fresh = fresh + tonumber(o[1]) - tonumber(o[2])
  end
  local r = redis.call('HMGET', k_ring(name), 'policy', 'reserved')
  if r[1] ~= 'latest' then fresh = math.min(fresh, redis.call('LLEN', k_free(name)) - tonumber(r[2])) end
  return returned + math.max(0, fresh)
end

-- How many orders are open. One whose last tickets are being made is in no list of claimable ones, so rings are asked.
local function open_orders()
  local n = 0
  for _, name in ipairs(redis.call('ZRANGE', K_RINGS, 0, -1)) do n = n + redis.call('SCARD', k_orders(name)) end
  return n
end

-- A hash of numbers as a table.
local function counts(key)
  local flat, found = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do found[flat[i]] = tonumber(flat[i + 1]) end
  return found
end

-- Ends an order: gives back its reservations, tells its ring how it ended, deletes its keys.
local function close_order(id, state, reason)
  local o = redis.call('HMGET', k_order(id), 'sink', 'priority', 'outstanding', 'delivered', 'pins')
  if not o[1] then return 0 end
  local sink, priority = o[1], o[2]
  if redis.call('EXISTS', k_ring(sink)) == 1 then
    redis.call('HINCRBY', k_ring(sink), 'reserved', 0 - tonumber(o[3]))  -- not -0: Redis refuses it
    redis.call('SREM', k_orders(sink), id)
    redis.call('RPUSH', k_ready(sink),
      cjson.encode({order = id, ['end'] = state, reason = reason, rows = tonumber(o[4]), tally = counts(k_tally(id))}))
  end
  redis.call('LREM', k_open(priority), 0, id)
  redis.call('ZREM', K_DEADLINES, id)
  if tonumber(o[3]) > 0 then
    local prefix = id .. ' '
    for _, lease in ipairs(redis.call('ZRANGE', K_LEASES, 0, -1)) do
      if string.sub(lease, 1, #prefix) == prefix then redis.call('ZREM', K_LEASES, lease) end
    end
  end
  redis.call('DEL', k_order(id), k_done(id), k_returned(id), k_attempts(id), k_tally(id))
  for _, pin in ipairs(cjson.decode(o[5])) do unpin(pin[1], pin[2]) end
  ring_bell(1)
  return 1
end

-- Hands a claimed ticket out again, or ends its order when it was tried too often. Its slot stays reserved.
local function return_ticket(id, number, reason)
  redis.call('ZREM', K_LEASES, id .. ' ' .. number)
  local priority = redis.call('HGET', k_order(id), 'priority')
  if not priority or redis.call('GETBIT', k_done(id), number) == 1 then return 0 end
  local attempts = tonumber(redis.call('HGET', k_attempts(id), number)) or 0
  if attempts >= MAX_ATTEMPTS then
    close_order(id, 'failed', 'ticket ' .. number .. ' was tried ' .. attempts .. ' times; last: ' .. reason)
    return 1
  end
  redis.call('LREM', k_returned(id), 0, number)
  redis.call('RPUSH', k_returned(id), number)
  redis.call('LREM', k_open(priority), 0, id)
  redis.call('LPUSH', k_open(priority), id)
  ring_bell(1)
  return 1
end

local function delete_channel(channel)
  for _, version in ipairs(redis.call('ZRANGE', k_snapshots(channel), 0, -1)) do delete_snapshot(channel, version) end
  redis.call('DEL', k_snapshots(channel), k_pins(channel))
  redis.call('SREM', K_CHANNELS, channel)
end

-- Deletes a ring with its snapshot channels, and ends the orders that deliver to it; nobody is left to be told.
local function delete_ring(name)
  for _, id in ipairs(redis.call('SMEMBERS', k_orders(name))) do close_order(id, 'cancelled', 'its ring was closed') end
  for channel in string.gmatch(redis.call('HGET', k_ring(name), 'channels') or '', '[^,]+') do delete_channel(channel) end
  local slots = tonumber(redis.call('HGET', k_ring(name), 'slots')) or 0
  for i = 0, slots - 1 do redis.call('DEL', k_slot(name, i)) end
  redis.call('DEL', k_ready(name), k_in_hand(name), k_free(name), k_orders(name), k_reader(name))
  redis.call('ZREM', K_RINGS, name)
  return redis.call('DEL', k_ring(name))
end

