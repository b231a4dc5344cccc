-- Only tells the sale, and how far the shop's commands were read.
--
-- KEYS    as in common.lua
-- ARGV    none
-- Returns the cursor of `in`
-- Cost    O(pools)

local function read()
  local now = begin()
  return { int(now), '0', sale and flat or false, fields.cursor or '0-0' }
end
