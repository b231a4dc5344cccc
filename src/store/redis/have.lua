-- Tells the shop in `have` what became of its declaration and what the sale is now.
--
-- KEYS    as in common.lua
-- ARGV    1 the text of `want` that the node judged, or nothing · 2 whether to compare it, 0|1 ·
--         3 what is wrong with it, or nothing
-- Returns written · same · moved (`want` was written anew meanwhile)
-- Cost    O(pools)

local function state_at(now)
  if not sale then return 'none' end
  if is_over(now) then return 'ended' end
  if sale.sold_out then return 'sold_out' end
  return now < sale.opens_at and 'not_started' or 'available'
end

local function have()
  local now = begin()
  if ARGV[2] == '1' and redis.call('GETRANGE', KEYS[6], 0, 65536) ~= ARGV[1] then
    return finish(now, 'moved')
  end
  local new = { 'revision', sale and sale.revision or '0', 'state', state_at(now),
    'paused', flag(sale and sale.paused), 'epoch', int(sale and sale.epoch or 0),
    'version', int(sale and sale.version or 0), 'error', ARGV[3] }
  local old = redis.call('HMGET', KEYS[7], 'revision', 'state', 'paused', 'epoch', 'version',
    'error')
  local result = 'same'
  for i = 1, #new, 2 do
    if old[(i + 1) / 2] ~= new[i + 1] then
      redis.call('HSET', KEYS[7], new[i], new[i + 1])
      result = 'written'
    end
  end
  if sale and old[1] ~= new[2] then
    redis.call('HSET', KEYS[7], 'applied_at_ms', int(now))
  end
  return finish(now, result)
end
