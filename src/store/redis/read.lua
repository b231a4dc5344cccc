-- Only tells the sale, and how far the shop's commands were read.
--
-- KEYS    as in common.lua
-- ARGV    none
-- Returns the cursor of `in`
-- Cost    O(pools)

local function read()
  local now = begin()
  local cursor = redis.call('HGET', KEYS[1], 'cursor') or '0-0'
  if not sale then return { int(now), '0', false, cursor } end
  return { int(now), '0', flatten(sale), cursor }
end
