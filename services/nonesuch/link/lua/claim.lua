-- claim: leases the next ticket that this worker can make and whose ring has room for it.
-- Interactive orders go before bulk ones; within a priority the orders take turns, so no order starves another.
-- A returned ticket still holds its slot and goes before fresh ones.
-- ARGV: lease in ms, generator ids that the worker hosts joined by ','
-- Returns {spec, number, attempt}, or nil when there is nothing to do.
local hosted = {}
for g in string.gmatch(ARGV[2], '[^,]+') do hosted[g] = true end

local function hosts_all(generators)
  for g in string.gmatch(generators, '[^,]+') do
    if not hosted[g] then return false end
  end
  return true
end

local function has_room(sink)
  local r = redis.call('HMGET', k_ring(sink), 'policy', 'reserved')
  return r[1] == 'latest' or redis.call('LLEN', k_free(sink)) > tonumber(r[2])
end

local function next_fresh(id, tickets)
  while true do
    local number = redis.call('HINCRBY', k_order(id), 'next', 1) - 1
    if number >= tickets then return nil end
    if redis.call('GETBIT', k_done(id), number) == 0 then return number end
  end
end

for _, priority in ipairs(PRIORITIES) do
  for _ = 1, redis.call('LLEN', k_open(priority)) do
    local id = redis.call('LMOVE', k_open(priority), k_open(priority), 'LEFT', 'RIGHT')
    local o = redis.call('HMGET', k_order(id), 'spec', 'sink', 'tickets', 'generators')
    if hosts_all(o[4]) then
      local number = redis.call('LPOP', k_returned(id))
      if not number and has_room(o[2]) then
        number = next_fresh(id, tonumber(o[3]))
        if number then
          redis.call('HINCRBY', k_order(id), 'outstanding', 1)
          redis.call('HINCRBY', k_ring(o[2]), 'reserved', 1)
        else
          redis.call('LREM', k_open(priority), 0, id)
        end
      end
      if number then
        redis.call('ZADD', K_LEASES, now_ms() + tonumber(ARGV[1]), id .. ' ' .. number)
        return {o[1], tonumber(number), redis.call('HINCRBY', k_attempts(id), number, 1)}
      end
    end
  end
end
return nil
