-- Tries every command of the scripts, on keys that no sale has: a right that is missing, a full
-- memory or a replica must show here and not in the middle of a script. Leaves nothing behind.
--
-- KEYS    as in common.lua, of the probe
-- ARGV    none
-- Returns ok
-- Cost    O(1)

local function probe()
  redis.call('TIME')
  redis.call('INFO', 'server')
  redis.call('HGETALL', KEYS[1])
  redis.call('HEXISTS', KEYS[2], 'a')
  redis.call('HGET', KEYS[2], 'a')
  redis.call('ZCARD', KEYS[3])
  redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', '0', 'LIMIT', 0, 1)
  redis.call('XLEN', KEYS[5])
  redis.call('GETRANGE', KEYS[6], 0, 1)
  redis.call('HMGET', KEYS[7], 'a')
  -- First what needs memory: once a script has written, Redis lets it go on.
  redis.call('HSET', KEYS[1], 'a', 'a')
  redis.call('ZADD', KEYS[3], '0', 'a')
  redis.call('XADD', KEYS[5], 'NOMKSTREAM', '*', 'a', 'a')
  redis.call('HDEL', KEYS[1], 'a')
  redis.call('ZREM', KEYS[3], 'a')
  return 'ok'
end
