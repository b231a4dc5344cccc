-- A declaration, which the node has checked by itself already.
--
-- KEYS    as in common.lua
-- ARGV    1 salt · 2 hash · 3 revision or nothing · 4 activity · 5 opens_at · 6 ends_at or nothing ·
--         7 overshoot_permille · 8 orders · 9 units · 10 restock · 11 whether to ask which server
--         this is, 0|1 · 12 restock_batch · 13 restock_debounce_ms · then for each pool name, stock,
--         and where the shop says what is left, or nothing
-- Returns applied · unchanged · created_paused · refused (the node says why: it has the sale)
-- Cost    O(pools)

-- Whether a is more than b, both decimal text of any length without leading zeros.
local function is_above(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end

local function read_declaration()
  local d = {
    salt = ARGV[1], hash = ARGV[2], revision = ARGV[3] ~= '' and ARGV[3] or nil,
    activity = ARGV[4], opens_at = number(ARGV[5], 'opens_at'),
    ends_at = ARGV[6] ~= '' and number(ARGV[6], 'ends_at') or nil,
    overshoot = number(ARGV[7], 'overshoot'), orders = number(ARGV[8], 'orders'),
    units = number(ARGV[9], 'units'), restock = ARGV[10], pools = {},
    restock_batch = number(ARGV[12], 'restock_batch'),
    restock_debounce_ms = number(ARGV[13], 'restock_debounce_ms'),
  }
  d.by_name = {}
  local names = {}
  for i = 14, #ARGV, 3 do
    local name = ARGV[i]
    names[#names + 1] = name
    d.by_name[name] = { name = name, stock = number(ARGV[i + 1], 'stock'), confirmed = 0, held = 0,
      limbo = 0, sold_out = false, held_back = false, back_since = 0, source = ARGV[i + 2],
      read_at = 0, not_before = 0, empty_since = 0 }
    d.pools[#names] = d.by_name[name]
  end
  d.names = table.concat(names, ',')
  return d
end

local function create(d, now)
  if d.ends_at and d.ends_at <= now then return 'refused' end
  is_new = true
  sale = {
    epoch = 1, version = 1, revision = d.revision or '0', applied = d.hash,
    activity = d.activity, opens_at = d.opens_at, ends_at = d.ends_at,
    paused = d.opens_at <= now, ended = false, sold_out = false, overshoot = d.overshoot,
    orders = d.orders, units = d.units, restock = d.restock, salt = d.salt, names = d.names,
    server = server_of(ARGV[11]), fences = 0, learn_until = 0, seq = 0, ids = '',
    restock_batch = d.restock_batch, restock_debounce_ms = d.restock_debounce_ms,
  }
  pools, loaded = d.by_name, d.pools
  return sale.paused and 'created_paused' or 'applied'
end

local function knows(hash)
  return string.find(',' .. sale.applied .. ',', ',' .. hash .. ',', 1, true) ~= nil
end

-- Whether a pool is declared as it is.
local function is_same_stock(new, old)
  return new.source == old.source and (old.source ~= '' or new.stock == old.stock)
end

-- Before T0 everything is replaced but what happened. Returns the pools that go, or nil.
local function before_opening(d)
  local gone = {}
  for _, old in ipairs(all_pools()) do
    local new = d.by_name[old.name]
    if new then
      new.confirmed, new.held, new.limbo = old.confirmed, old.held, old.limbo
      new.sold_out, new.held_back, new.back_since = old.sold_out, old.held_back, old.back_since
      new.said_stock, new.said_sold_out = old.said_stock, old.said_sold_out
      if is_same_stock(new, old) then
        new.stock, new.read_at = old.stock, old.read_at
        new.not_before, new.empty_since = old.not_before, old.empty_since
      end
    elseif old.confirmed ~= 0 or old.held ~= 0 or old.limbo ~= 0 then
      return nil
    else
      gone[#gone + 1] = old.name
    end
  end
  if sale.sold_out then
    for _, pool in ipairs(d.pools) do pool.sold_out, pool.held_back = true, true end
  end
  pools, loaded, sale.names = d.by_name, d.pools, d.names
  sale.activity, sale.opens_at = d.activity, d.opens_at
  return gone
end

-- Policies by how much they give back.
local RESTOCK = { never = 0, manual = 1, auto = 2 }

-- After T0 only limits tightened and ends_at are taken.
local function may_change(d)
  if d.activity ~= sale.activity or d.opens_at ~= sale.opens_at then return false end
  if d.overshoot > sale.overshoot then return false end
  if d.orders > sale.orders or d.units > sale.units then return false end
  if RESTOCK[d.restock] > RESTOCK[sale.restock] then return false end
  if d.names ~= sale.names then return false end
  for _, pool in ipairs(all_pools()) do
    if not is_same_stock(d.by_name[pool.name], pool) then return false end
  end
  return true
end

-- Puts a hash at the end of the last 16.
local function remember(hash)
  local kept = {}
  for known in string.gmatch(sale.applied, '[^,]+') do
    if known ~= hash then kept[#kept + 1] = known end
  end
  kept[#kept + 1] = hash
  if #kept > 16 then table.remove(kept, 1) end
  sale.applied = table.concat(kept, ',')
end

-- Returns the answer, and the pools that go.
local function change(d, now)
  if d.revision then
    if d.revision == sale.revision and knows(d.hash) then return 'unchanged' end
    if not is_above(d.revision, sale.revision) then return 'refused' end
  elseif knows(d.hash) then
    return 'unchanged'
  end
  if is_over(now) or (d.ends_at and d.ends_at <= now) then return 'refused' end
  local gone = nil
  if now < sale.opens_at then
    gone = before_opening(d)
    if not gone then return 'refused' end
  elseif not may_change(d) then
    return 'refused'
  end
  sale.ends_at, sale.overshoot, sale.restock = d.ends_at, d.overshoot, d.restock
  sale.orders, sale.units = d.orders, d.units
  sale.restock_batch, sale.restock_debounce_ms = d.restock_batch, d.restock_debounce_ms
  sale.revision = d.revision or sale.revision
  remember(d.hash)
  return 'applied', gone
end

local function declare()
  local now = begin()
  local d = read_declaration()
  local result, gone = nil, nil
  if sale then
    result, gone = change(d, now)
  else
    result = create(d, now)
  end
  if result == 'applied' or result == 'created_paused' then
    announce('declared', '', sale.revision)
  end
  local reply = finish(now, result)
  for _, name in ipairs(gone or {}) do
    redis.call('HDEL', KEYS[1], 'stock:' .. name, 'confirmed:' .. name, 'held:' .. name,
      'limbo:' .. name, 'sold_out:' .. name, 'held_back:' .. name, 'back_since:' .. name,
      'source:' .. name, 'read_at:' .. name, 'not_before:' .. name, 'empty_since:' .. name)
  end
  return reply
end
