-- An operator's word.
--
-- KEYS    as in common.lua
-- ARGV    1 pause|resume|sold_out|end|add_stock|restock · 2 pool · 3 units · 4 id
-- Returns applied · unchanged · refused (the node says why: it has the sale)
-- Cost    O(pools)

local STOCK_MAX = 1000000000

local function set(field, to)
  if sale[field] == to then return 'unchanged' end
  sale[field] = to
  return 'applied'
end

-- Both return why not, or nil. The texts are for `out`; to an operator the node says more.
local function add_stock(pool, units)
  if not pool then return 'there is no such pool' end
  if pool.source ~= '' then return 'the stock is the shop\'s own number' end
  if pool.sold_out then return 'the pool is sold out: use restock' end
  if units == 0 then return 'units must be 1 or more' end
  if pool.stock + units > STOCK_MAX then return 'too many units' end
  pool.stock = pool.stock + units
end

local function restock(pool, units)
  if sale.restock == 'never' then return 'the restock policy is never' end
  if not pool then return 'there is no such pool' end
  if not pool.sold_out then return 'the pool is not sold out: use add_stock' end
  if pool.source ~= '' and units > 0 then return 'the stock is the shop\'s own number' end
  if pool.confirmed + pool.held + pool.limbo >= pool.stock + units then
    return 'there is nothing to sell'
  end
  if pool.stock + units > STOCK_MAX then return 'too many units' end
  pool.stock = pool.stock + units
  pool.sold_out, pool.held_back, sale.sold_out = false, false, false
  sale.epoch = sale.epoch + 1
end

local function once(word, name, units, id)
  if #id < 1 or #id > 128 or string.find(id, '[^\33-\126]') then
    return 'refused', 'id must be 1 to 128 visible ASCII characters'
  end
  if string.find(' ' .. sale.ids .. ' ', ' ' .. id .. ' ', 1, true) then return 'unchanged' end
  local pool = pool_of(name)
  local run = word == 'add_stock' and add_stock or restock
  local why = run(pool, units)
  if why then return 'refused', why end
  sale.ids = joined(sale.ids, id)
  announce(word, name, int(units))
  return 'applied'
end

local function control_one(now, word, name, units, id)
  if word == 'end' then return set('ended', true) end
  if is_over(now) then return 'refused' end
  if word == 'pause' then return set('paused', true) end
  if word == 'resume' then return set('paused', false) end
  if word == 'sold_out' then
    for _, pool in ipairs(all_pools()) do pool.sold_out, pool.held_back = true, true end
    return set('sold_out', true)
  end
  return once(word, name, units, id)
end

local function control()
  local now = begin()
  if not sale then return finish(now, 'no_sale') end
  local word = ARGV[1]
  local result = control_one(now, word, ARGV[2], number(ARGV[3], 'units'), ARGV[4])
  if result == 'applied' and word ~= 'add_stock' and word ~= 'restock' then
    announce(word, '', '')
  end
  return finish(now, result)
end
