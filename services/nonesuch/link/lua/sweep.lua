-- sweep: what time alone brings about. Expired leases go back, orders past their deadline end, rings whose consumer
-- has not shown up are deleted.
-- Returns {tickets handed out again, orders expired, rings deleted}.
local now = now_ms()
local leases = redis.call('ZRANGE', K_LEASES, 0, now, 'BYSCORE')
for _, lease in ipairs(leases) do
  local id, number = string.match(lease, '^(%S+) (%d+)$')
  return_ticket(id, number, 'its worker was lost (the lease ran out)')
end
local late = redis.call('ZRANGE', K_DEADLINES, 0, now, 'BYSCORE')
for _, id in ipairs(late) do close_order(id, 'expired', 'its deadline passed') end
local abandoned = redis.call('ZRANGE', K_RINGS, 0, now, 'BYSCORE')
for _, name in ipairs(abandoned) do delete_ring(name) end
return {#leases, #late, #abandoned}
