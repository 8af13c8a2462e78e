-- take: the oldest unread entry goes into the hands of the consumer, who is there. Does not wait.
-- ARGV: ring name, time to live in ms, reader or '' for the consumer of a ring that nobody else can reach
-- Returns the entry, nil if there is none, 'fenced' (another reader has begun), or 'gone'.
local name = ARGV[1]
if redis.call('EXISTS', k_ring(name)) == 0 then return 'gone' end
if not is_reader(name, ARGV[3]) then return 'fenced' end
redis.call('ZADD', K_RINGS, now_ms() + tonumber(ARGV[2]), name)
return redis.call('LMOVE', k_ready(name), k_in_hand(name), 'LEFT', 'RIGHT')
