-- What all scripts share: reading the sale, the rules at the end of every operation, writing it.
--
-- KEYS  1 L ledger · 2 U users · 3 D deadlines · 4 F flag · 5 out · 6 want · 7 have · 8 in
-- Every script reads first, then decides, then writes: an error of Redis or a value that makes no
-- sense comes before the first write, so a script does all or nothing. Times are the server's. All
-- numbers are integers below 2^53 and are stored as decimal text.
--
-- Dialect of managed and proxied Redis: every key stands literally as KEYS[n] in redis.call; no
-- unpack, no PUBLISH, no globals.

local function ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function int(n)
  return string.format('%.0f', n)
end

local function number(text, what)
  if not text or #text > 16 or not string.match(text, '^%d+$') then
    error('CORRUPT ' .. what .. ' is ' .. tostring(text))
  end
  return tonumber(text)
end

local function flag(is)
  return is and '1' or '0'
end

-- The sale of this operation, and what of it stood in the ledger when the operation began.
local sale = nil
local stored = {}
local is_new = false
-- Users whose records were looked at: {records, stored text}; and the order in which they changed.
local users = {}
local touched = {}
-- What to tell the shop.
local events = {}

local function tell(event, pool, units, user, claim)
  events[#events + 1] = { event, pool, units, user, claim, '' }
end

local function announce(event, pool, text)
  events[#events + 1] = { event, pool, '', '', '', text }
end

-- The pools of a sale: name → pool, beside the list in the order of the names.
local function index(s)
  s.by_name = {}
  for _, pool in ipairs(s.pools) do
    s.by_name[pool.name] = pool
  end
end

-- Reads the sale; nil if it was never declared. The looks at the other keys fail here, before any
-- write, where one of them holds something of another type.
local function load()
  redis.call('HEXISTS', KEYS[2], '')
  redis.call('ZCARD', KEYS[3])
  redis.call('HEXISTS', KEYS[4], '')
  redis.call('XLEN', KEYS[5])
  local v = redis.call('HMGET', KEYS[1], 'epoch', 'version', 'revision', 'applied', 'activity',
    'opens_at', 'ends_at', 'paused', 'ended', 'sold_out', 'overshoot_permille', 'orders', 'units',
    'restock', 'salt', 'pools')
  if not v[1] then
    if redis.call('HLEN', KEYS[1]) > 0 then error('CORRUPT epoch is missing') end
    return nil
  end
  for i = 1, 16 do
    if not v[i] then error('CORRUPT a field of the ledger is missing') end
  end
  local s = {
    epoch = number(v[1], 'epoch'), version = number(v[2], 'version'), revision = v[3],
    applied = v[4], activity = v[5], opens_at = number(v[6], 'opens_at'),
    ends_at = v[7] ~= '' and number(v[7], 'ends_at') or nil,
    paused = v[8] == '1', ended = v[9] == '1', sold_out = v[10] == '1',
    overshoot = number(v[11], 'overshoot_permille'), orders = number(v[12], 'orders'),
    units = number(v[13], 'units'), restock = v[14], salt = v[15], pools = {},
  }
  for name in string.gmatch(v[16], '[^,]+') do
    local p = redis.call('HMGET', KEYS[1], 'stock:' .. name, 'confirmed:' .. name,
      'held:' .. name, 'limbo:' .. name, 'sold_out:' .. name)
    s.pools[#s.pools + 1] = {
      name = name, stock = number(p[1], 'stock:' .. name),
      confirmed = number(p[2], 'confirmed:' .. name), held = number(p[3], 'held:' .. name),
      limbo = number(p[4], 'limbo:' .. name), sold_out = p[5] == '1',
    }
  end
  index(s)
  return s
end

-- The sale as pairs of field and text, in a fixed order.
local function flatten(s)
  local names = {}
  for i, pool in ipairs(s.pools) do names[i] = pool.name end
  local flat = {
    'epoch', int(s.epoch), 'version', int(s.version), 'revision', s.revision,
    'applied', s.applied, 'activity', s.activity, 'opens_at', int(s.opens_at),
    'ends_at', s.ends_at and int(s.ends_at) or '', 'paused', flag(s.paused),
    'ended', flag(s.ended), 'sold_out', flag(s.sold_out),
    'overshoot_permille', int(s.overshoot), 'orders', int(s.orders), 'units', int(s.units),
    'restock', s.restock, 'salt', s.salt, 'pools', table.concat(names, ','),
  }
  for _, pool in ipairs(s.pools) do
    local values = {
      'stock:' .. pool.name, int(pool.stock), 'confirmed:' .. pool.name, int(pool.confirmed),
      'held:' .. pool.name, int(pool.held), 'limbo:' .. pool.name, int(pool.limbo),
      'sold_out:' .. pool.name, flag(pool.sold_out),
    }
    for _, value in ipairs(values) do flat[#flat + 1] = value end
  end
  return flat
end

-- What raises the version: everything but counters, the version and the memory of declarations.
local function public(s)
  local flat, out = flatten(s), {}
  for i = 1, #flat, 2 do
    local field = flat[i]
    if field ~= 'version' and field ~= 'revision' and field ~= 'applied'
      and not string.match(field, '^confirmed:') and not string.match(field, '^held:')
      and not string.match(field, '^limbo:') then
      out[#out + 1] = field .. '=' .. flat[i + 1]
    end
  end
  return table.concat(out, ' ')
end

-- Begins an operation: returns the server's time, and sets `sale`.
local said = ''
local function begin()
  sale = load()
  if sale then
    local flat = flatten(sale)
    for i = 1, #flat, 2 do stored[flat[i]] = flat[i + 1] end
    said = public(sale)
  end
  return ms()
end

local function is_over(now)
  return sale.ended or (sale.ends_at ~= nil and now >= sale.ends_at)
end

-- Units that may be admitted now; negative after the stock was lowered.
local function room(pool)
  local unsold = math.max(0, pool.stock - pool.confirmed)
  return math.floor(unsold * sale.overshoot / 1000) - pool.held - pool.limbo
end

-- A user's records, oldest first. Text of one: kind|claim|attempt|pool|units|node|deadline.
local function parse(text)
  local records = {}
  for one in string.gmatch(text, '[^;]+') do
    local kind, claim, attempt, pool, units, node, deadline =
      string.match(one, '^([APLC])|(%x+)|(%x+)|([^|]+)|(%d+)|(%x+)|(%d+)$')
    if not kind then error('CORRUPT record ' .. one) end
    records[#records + 1] = {
      kind = kind, claim = claim, attempt = attempt, pool = pool, units = number(units, 'units'),
      node = node, deadline = number(deadline, 'deadline'),
    }
  end
  return records
end

local function format(records)
  local out = {}
  for i, r in ipairs(records) do
    out[i] = table.concat(
      { r.kind, r.claim, r.attempt, r.pool, int(r.units), r.node, int(r.deadline) }, '|')
  end
  return table.concat(out, ';')
end

local function records_of(user)
  local known = users[user]
  if not known then
    local text = redis.call('HGET', KEYS[2], user) or ''
    known = { records = parse(text), stored = text }
    users[user] = known
  end
  return known.records
end

local function counter(record)
  if record.kind == 'L' then return 'limbo' end
  return record.kind == 'C' and 'confirmed' or 'held'
end

-- Replaces a user's records. Counters follow here and nowhere else, so that they are what the
-- records say, whatever an operation did.
local function put_user(user, new)
  local known = users[user]
  for _, r in ipairs(known.records) do
    local pool = sale.by_name[r.pool]
    if pool then
      local field = counter(r)
      pool[field] = math.max(0, pool[field] - r.units)
    end
  end
  for _, r in ipairs(new) do
    local pool = sale.by_name[r.pool]
    if pool then
      local field = counter(r)
      pool[field] = pool[field] + r.units
    end
  end
  known.records = new
  if not known.touched then
    known.touched = true
    touched[#touched + 1] = user
  end
end

local function copy(records)
  local out = {}
  for i, r in ipairs(records) do
    out[i] = { kind = r.kind, claim = r.claim, attempt = r.attempt, pool = r.pool,
      units = r.units, node = r.node, deadline = r.deadline }
  end
  return out
end

-- The end of every operation: latches, and the version where the public must see a change.
local function settle()
  local all = true
  for _, pool in ipairs(sale.pools) do
    if not pool.sold_out and pool.held == 0 and pool.confirmed + pool.limbo >= pool.stock then
      pool.sold_out = true
    end
    all = all and pool.sold_out
  end
  sale.sold_out = all
  local says = public(sale)
  if says ~= said and not is_new then
    sale.version = sale.version + 1
  end
  said = says
end

local function write_users()
  for _, user in ipairs(touched) do
    local known = users[user]
    local due = {}
    for _, r in ipairs(parse(known.stored)) do
      if r.kind == 'A' or r.kind == 'P' then due[r.claim] = -1 end
    end
    for _, r in ipairs(known.records) do
      if r.kind == 'A' or r.kind == 'P' then due[r.claim] = r.deadline end
    end
    for claim, deadline in pairs(due) do
      if deadline < 0 then
        redis.call('ZREM', KEYS[3], user .. '|' .. claim)
      else
        redis.call('ZADD', KEYS[3], int(deadline), user .. '|' .. claim)
      end
    end
    if #known.records == 0 then
      redis.call('HDEL', KEYS[2], user)
    else
      redis.call('HSET', KEYS[2], user, format(known.records))
    end
  end
end

local function write_sale(flat)
  local left = {}
  for field in pairs(stored) do left[field] = true end
  for i = 1, #flat, 2 do
    local field, value = flat[i], flat[i + 1]
    left[field] = nil
    if stored[field] ~= value then redis.call('HSET', KEYS[1], field, value) end
  end
  for field in pairs(left) do redis.call('HDEL', KEYS[1], field) end
end

-- Tells the shop what latched or opened again, beside what the operation told.
local function compare_latches()
  for _, pool in ipairs(sale.pools) do
    local was = stored['sold_out:' .. pool.name]
    if pool.sold_out and was ~= '1' then announce('sold_out', pool.name, '') end
  end
  if sale.sold_out and stored.sold_out == '0' then announce('sold_out', '', '') end
end

-- Writes everything, and returns the reply: time, whether (epoch, version) changed, the sale, result.
local function finish(now, result)
  if not sale then return { int(now), '0', false, result } end
  settle()
  local flat = flatten(sale)
  local changed = stored.version ~= int(sale.version) or stored.epoch ~= int(sale.epoch)
  compare_latches()
  write_users()
  write_sale(flat)
  if changed then
    redis.call('HSET', KEYS[4], 'epoch', int(sale.epoch), 'version', int(sale.version),
      'activity', sale.activity, 'opens_at', int(sale.opens_at),
      'ends_at', sale.ends_at and int(sale.ends_at) or '', 'paused', flag(sale.paused),
      'sold_out', flag(sale.sold_out), 'ended', flag(sale.ended))
  end
  for _, e in ipairs(events) do
    redis.call('XADD', KEYS[5], 'MAXLEN', '~', '100000', '*', 'event', e[1],
      'epoch', int(sale.epoch), 'pool', e[2], 'units', e[3], 'user', e[4], 'claim', e[5],
      'text', e[6])
  end
  return { int(now), flag(changed), flat, result }
end
