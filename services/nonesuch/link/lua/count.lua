-- count: how many orders are open (an order whose last tickets are being made is in no list, so rings are asked).
-- Returns an integer.
local n = 0
for _, name in ipairs(redis.call('ZRANGE', K_RINGS, 0, -1)) do n = n + redis.call('SCARD', k_orders(name)) end
return n
