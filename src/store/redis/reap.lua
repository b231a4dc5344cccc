-- Records A and P past their deadline go to limbo and stay there until they are reconciled. With the
-- restock policy `auto`, pools whose units have been back long enough open again.
--
-- KEYS    as in common.lua
-- ARGV    1 most records
-- Returns for each record: user, then its text as it is now
-- Cost    O(pools + records · log(open records))

-- Opens the pools whose batch has waited long enough: together, in one new epoch.
local function restock_due(now)
  if sale.restock ~= 'auto' or is_over(now) or now < sale.learn_until then return end
  local is_any = false
  for _, pool in ipairs(all_pools()) do
    local is_due = pool.back_since ~= 0 and pool.back_since + sale.restock_debounce_ms <= now
    if is_due and is_back(pool) then
      pool.sold_out, is_any = false, true
      announce('restock', pool.name, 'auto')
    end
  end
  if is_any then
    sale.sold_out = false
    sale.epoch = sale.epoch + 1
  end
end

local function reap()
  local now = begin()
  if not sale then return finish(now, 'no_sale') end
  local reaped = {}
  local due = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', int(now), 'LIMIT', 0, ARGV[1])
  for _, member in ipairs(due) do
    local user, claim = string.match(member, '^(%x+)|(%x+)$')
    if not user then error('CORRUPT deadline ' .. member) end
    local with = copy(records_of(user))
    local open = nil
    for _, r in ipairs(with) do
      if r.claim == claim and (r.kind == 'A' or r.kind == 'P') and not open then open = r end
    end
    if open then
      open.kind = 'L'
      put_user(user, with)
      tell('limbo', open.pool, open.units, user, claim)
      reaped[#reaped + 1] = user
      reaped[#reaped + 1] = format({ open })
    end
  end
  restock_due(now)
  return finish(now, reaped)
end
