-- What all scripts share: reading the sale, the rules at the end of every operation, writing it.
--
-- KEYS  1 L ledger · 2 U users · 3 D deadlines · 4 F flag · 5 out · 6 want · 7 have · 8 in ·
--       9 I ids of commands of `in`, claims of cancelled orders · 10 N nodes
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

-- The ledger as it was read: field → text, the flat array that is also the reply, and where a field's
-- value stands in it.
local fields = {}
local flat = {}
local at = {}
-- The sale of this operation; nil if it was never declared. Its pools are read when they are needed:
-- a sale may have 200.
local sale = nil
local is_new = false
local pools = {}
local loaded = {}
-- Users whose records were looked at: {records, stored text}; and the order in which they changed.
local users = {}
local touched = {}
-- Claims whose records a V took in this operation: in order, and by claim.
local voids = {}
local is_voided = {}
-- What to tell the shop.
local events = {}
-- The server's time of this operation.
local clock = 0
-- Whether the version rises whatever is different.
local rises = false

-- The server that answers: one life of one process with one history. Zero where nobody asks, since
-- what is behind the connection does not tell it reliably.
local ZERO = '00000000000000000000000000000000'
local function server_of(asks)
  if asks ~= '1' then return ZERO end
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
  local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or ''
  if #run < 16 or #history < 16 then error('CORRUPT INFO tells no run_id or master_replid') end
  return string.sub(run, 1, 16) .. string.sub(history, 1, 16)
end

local function tell(event, pool, units, user, claim)
  events[#events + 1] = { event, pool, units, user, claim, '' }
end

local function announce(event, pool, text)
  events[#events + 1] = { event, pool, '', '', '', text }
end

-- What the public knows of a pool's stock. The shop's own number moves with every order.
local function shown(pool)
  return pool.source ~= '' and pool.source or int(pool.stock)
end

-- The pool called `name`, nil if there is none. `said_*` is what the public knows of it; `source` is
-- where the shop says how many units are left, if it does.
local function pool_of(name)
  if pools[name] or is_new then return pools[name] end
  local stock = fields['stock:' .. name]
  if not stock then return nil end
  local function count(what)
    return number(fields[what .. ':' .. name], what .. ':' .. name)
  end
  local pool = {
    name = name, stock = count('stock'), confirmed = count('confirmed'), held = count('held'),
    limbo = count('limbo'), sold_out = fields['sold_out:' .. name] == '1',
    held_back = fields['held_back:' .. name] == '1',
    back_since = fields['back_since:' .. name] and count('back_since') or 0,
    source = fields['source:' .. name] or '', read_at = 0, not_before = 0, empty_since = 0,
  }
  if pool.source ~= '' then
    pool.read_at, pool.not_before = count('read_at'), count('not_before')
    pool.empty_since = count('empty_since')
  end
  pool.said_stock, pool.said_sold_out = shown(pool), pool.sold_out
  pools[name] = pool
  loaded[#loaded + 1] = pool
  return pool
end

-- Every pool, in the order of the names.
local function all_pools()
  local all = {}
  for name in string.gmatch(sale.names, '[^,]+') do
    local pool = pool_of(name)
    if not pool then error('CORRUPT stock:' .. name .. ' is missing') end
    all[#all + 1] = pool
  end
  return all
end

local NEEDED = { 'epoch', 'version', 'revision', 'applied', 'activity', 'opens_at', 'ends_at',
  'paused', 'ended', 'sold_out', 'overshoot_permille', 'orders', 'units', 'restock', 'salt',
  'pools' }

-- The last 64 of the ids in two lists, parted by spaces: those that only `older` has come first.
local function joined(older, newer)
  local list = {}
  for id in string.gmatch(older, '[^ ]+') do
    if not string.find(' ' .. newer .. ' ', ' ' .. id .. ' ', 1, true) then list[#list + 1] = id end
  end
  for id in string.gmatch(newer, '[^ ]+') do list[#list + 1] = id end
  return table.concat(list, ' ', math.max(1, #list - 63))
end

-- Reads the sale. The looks at the other keys fail here, before any write, where one of them holds
-- something of another type.
local function load()
  redis.call('HEXISTS', KEYS[2], '')
  redis.call('ZCARD', KEYS[3])
  redis.call('HEXISTS', KEYS[4], '')
  redis.call('XLEN', KEYS[5])
  flat = redis.call('HGETALL', KEYS[1])
  if #flat == 0 then return nil end
  for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
    at[flat[i]] = i + 1
  end
  for _, field in ipairs(NEEDED) do
    if not fields[field] then error('CORRUPT ' .. field .. ' is missing') end
  end
  local function count(field)
    return number(fields[field], field)
  end
  return {
    epoch = count('epoch'), version = count('version'), revision = fields.revision,
    applied = fields.applied, activity = fields.activity, opens_at = count('opens_at'),
    ends_at = fields.ends_at ~= '' and count('ends_at') or nil, paused = fields.paused == '1',
    ended = fields.ended == '1', sold_out = fields.sold_out == '1',
    overshoot = count('overshoot_permille'), orders = count('orders'), units = count('units'),
    restock = fields.restock, salt = fields.salt, names = fields.pools,
    -- Ledgers of older versions have none of these.
    server = fields.server or ZERO, fences = fields.fences and count('fences') or 0,
    learn_until = fields.learn_until and count('learn_until') or 0,
    seq = fields.seq and count('seq') or 0, ids = fields.ids or '',
    restock_batch = fields.restock_batch and count('restock_batch') or 0,
    restock_debounce_ms = fields.restock_debounce_ms and count('restock_debounce_ms') or 0,
  }
end

-- Whether units of a pool have come back that the policy sells again.
local function is_back(pool)
  return sale.restock == 'auto' and pool.sold_out and not pool.held_back
    and pool.stock - pool.confirmed - pool.held - pool.limbo >= math.max(1, sale.restock_batch)
end

-- Whether it is known how many units there are: always, but where the shop's number leads.
local function is_known(pool)
  return pool.source == '' or (pool.read_at ~= 0 and clock <= pool.read_at + 2000)
end

-- What was read of the shop's number counts no more, nor does a reading that is under way at `now`.
local function forget(pool, now)
  pool.read_at, pool.empty_since, pool.not_before = 0, 0, now
end

local function latch(pool)
  local is_empty = pool.source == '' or (pool.empty_since ~= 0
    and pool.read_at >= pool.empty_since + 200 and is_known(pool))
  if pool.held == 0 and pool.confirmed + pool.limbo >= pool.stock and is_empty then
    pool.sold_out = true
  end
end

-- What raises the version, apart from pools: everything but the version and the memory of
-- declarations and commands.
local function public()
  return table.concat({ int(sale.epoch), sale.activity, int(sale.opens_at),
    sale.ends_at and int(sale.ends_at) or '', flag(sale.paused), flag(sale.ended),
    flag(sale.sold_out), int(sale.overshoot), int(sale.orders), int(sale.units), sale.restock,
    sale.salt, sale.names, sale.server, int(sale.fences), int(sale.learn_until),
    int(sale.restock_batch), int(sale.restock_debounce_ms) }, ' ')
end

-- Begins an operation: returns the server's time, and sets `sale`.
local said, said_names = '', ''
local function begin()
  sale = load()
  clock = ms()
  if not sale then return clock end
  said, said_names = public(), sale.names
  -- The learning is over: what is sold latches before anybody asks.
  if sale.learn_until ~= 0 and clock >= sale.learn_until then
    sale.learn_until, sale.sold_out = 0, true
    for _, pool in ipairs(all_pools()) do
      latch(pool)
      if not pool.sold_out then sale.sold_out = false end
    end
  end
  return clock
end

-- Freezes claims where the ledger may have forgotten something.
local function look(asks, learn_ms, seen, is_restored)
  local server = server_of(asks)
  local is_behind = sale.seq < seen and clock >= sale.learn_until
  if sale.server ~= server or is_behind or is_restored then
    sale.server, sale.fences, sale.learn_until = server, sale.fences + 1, clock + learn_ms
    for _, pool in ipairs(all_pools()) do
      if pool.source ~= '' then forget(pool, clock) end
    end
  end
  sale.seq = math.max(sale.seq, seen)
end

-- The generation of the ledger's memory.
local function mark()
  return sale.server .. ':' .. int(sale.fences)
end

local function is_over(now)
  return sale.ended or (sale.ends_at ~= nil and now >= sale.ends_at)
end

-- Units that may be admitted now; negative after the stock was lowered.
local function room(pool)
  local unsold = math.max(0, pool.stock - pool.confirmed)
  if pool.source ~= '' and pool.read_at == 0 then unsold = 0 end
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
    local pool = pool_of(r.pool)
    if pool then
      local field = counter(r)
      pool[field] = math.max(0, pool[field] - r.units)
    end
  end
  for _, r in ipairs(new) do
    local pool = pool_of(r.pool)
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

-- Whether every pool is latched.
local function are_all_latched()
  for name in string.gmatch(sale.names, '[^,]+') do
    local pool = pools[name]
    local is = fields['sold_out:' .. name] == '1'
    if pool then is = pool.sold_out end
    if not is then return false end
  end
  return true
end

-- The end of every operation: latches, and the version where the public must see a change. A pool
-- that nobody looked at is as it was, unless the ledger was learning: then nothing latched.
local function settle()
  local is_public, is_latch = false, sale.names ~= said_names
  local is_learning = clock < sale.learn_until
  if not is_learning and sale.learn_until ~= 0 then
    all_pools()
    sale.learn_until = 0
  end
  for _, pool in ipairs(loaded) do
    if not is_learning then
      latch(pool)
      if not is_back(pool) then
        pool.back_since = 0
      elseif pool.back_since == 0 then
        pool.back_since = clock
      end
    end
    if pool.sold_out ~= pool.said_sold_out then is_public, is_latch = true, true end
    if shown(pool) ~= pool.said_stock then is_public = true end
    pool.said_stock, pool.said_sold_out = shown(pool), pool.sold_out
  end
  if is_latch then sale.sold_out = are_all_latched() end
  local says = public()
  if (rises or is_public or says ~= said) and not is_new then sale.version = sale.version + 1 end
  said, said_names, rises = says, sale.names, false
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

-- Writes a field of the ledger where it changed, and in the reply.
local function put(field, value)
  if fields[field] == value then return end
  redis.call('HSET', KEYS[1], field, value)
  fields[field] = value
  if not at[field] then
    flat[#flat + 1] = field
    flat[#flat + 1] = value
    at[field] = #flat
  end
  flat[at[field]] = value
end

local function write_sale()
  put('epoch', int(sale.epoch))
  put('version', int(sale.version))
  put('revision', sale.revision)
  put('applied', sale.applied)
  put('activity', sale.activity)
  put('opens_at', int(sale.opens_at))
  put('ends_at', sale.ends_at and int(sale.ends_at) or '')
  put('paused', flag(sale.paused))
  put('ended', flag(sale.ended))
  put('sold_out', flag(sale.sold_out))
  put('overshoot_permille', int(sale.overshoot))
  put('orders', int(sale.orders))
  put('units', int(sale.units))
  put('restock', sale.restock)
  put('salt', sale.salt)
  put('server', sale.server)
  put('fences', int(sale.fences))
  put('learn_until', int(sale.learn_until))
  put('seq', int(sale.seq))
  put('ids', sale.ids)
  put('restock_batch', int(sale.restock_batch))
  put('restock_debounce_ms', int(sale.restock_debounce_ms))
  put('pools', sale.names)
  for _, pool in ipairs(loaded) do
    put('stock:' .. pool.name, int(pool.stock))
    put('confirmed:' .. pool.name, int(pool.confirmed))
    put('held:' .. pool.name, int(pool.held))
    put('limbo:' .. pool.name, int(pool.limbo))
    put('sold_out:' .. pool.name, flag(pool.sold_out))
    put('held_back:' .. pool.name, flag(pool.held_back))
    put('back_since:' .. pool.name, int(pool.back_since))
    if pool.source ~= '' or fields['source:' .. pool.name] then
      put('source:' .. pool.name, pool.source)
      put('read_at:' .. pool.name, int(pool.read_at))
      put('not_before:' .. pool.name, int(pool.not_before))
      put('empty_since:' .. pool.name, int(pool.empty_since))
    end
  end
end

-- Tells the shop what latched, beside what the operation told.
local function compare_latches()
  for _, pool in ipairs(loaded) do
    if pool.sold_out and fields['sold_out:' .. pool.name] ~= '1' then
      announce('sold_out', pool.name, '')
    end
  end
  if sale.sold_out and fields.sold_out == '0' then announce('sold_out', '', '') end
end

-- Writes everything, and returns the reply: time, whether (epoch, version) changed, the sale, result.
local function finish(now, result)
  if not sale then return { int(now), '0', false, result } end
  if #touched > 0 then sale.seq = sale.seq + 1 end
  settle()
  local changed = fields.version ~= int(sale.version) or fields.epoch ~= int(sale.epoch)
  compare_latches()
  write_users()
  write_sale()
  for _, claim in ipairs(voids) do redis.call('HSET', KEYS[9], 'void:' .. claim, '1') end
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
