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
  local n = text and tonumber(text)
  if not n or n > 9007199254740991 or string.find(text, '%D') then
    error('CORRUPT ' .. what .. ' is ' .. tostring(text))
  end
  return n
end

local function units_of(text)
  return text == '1' and 1 or number(text, 'units')
end

local function flag(is)
  return is and '1' or '0'
end

-- The ledger as it was read: field → text, or its number where one was asked for; and the flat array that
-- is also the reply.
local fields = {}
local numbers = {}
local flat = {}
-- The sale of this operation; nil if it was never declared. Its pools are read when they are needed:
-- a sale may have 200.
local sale = nil
local is_new = false
local pools = {}
local loaded = {}
-- Users whose records were looked at: the text as it was read, and the records where somebody needs them
-- one by one.
local stored = {}
local records = {}
-- Users whose records change, in order, and their places here. Where nobody needed the records one by
-- one, `texts` has what they become, `dues` the only one's deadline or '', `members` its place there.
local touched, place = {}, {}
local texts, dues, members = {}, {}, {}
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

-- What became of a claim: one event tells of all that follow each other in one operation.
local last = { event = '' }
local function tell(event, pool, units, user, claim)
  if last.event ~= event or last.pool ~= pool or event == 'void' then
    last = { event = event, pool = pool, units = 0, claims = {}, text = '' }
    events[#events + 1] = last
  end
  local claims = last.claims
  last.units = last.units + units
  claims[#claims + 1] = user .. ' ' .. claim .. ' ' .. units
end

local function announce(event, pool, text)
  last = { event = event, pool = pool, units = 0, claims = {}, text = text }
  events[#events + 1] = last
end

-- A number of the ledger.
local function count(field)
  local n = number(fields[field], field)
  numbers[field] = n
  return n
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
  local of = ':' .. name
  local pool = {
    name = name, stock = count('stock' .. of), confirmed = count('confirmed' .. of),
    held = count('held' .. of), limbo = count('limbo' .. of),
    sold_out = fields['sold_out' .. of] == '1', held_back = fields['held_back' .. of] == '1',
    back_since = fields['back_since' .. of] and count('back_since' .. of) or 0,
    source = fields['source' .. of] or '', read_at = 0, not_before = 0, empty_since = 0,
  }
  if pool.source ~= '' then
    pool.read_at, pool.not_before = count('read_at' .. of), count('not_before' .. of)
    pool.empty_since = count('empty_since' .. of)
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
  end
  for _, field in ipairs(NEEDED) do
    if not fields[field] then error('CORRUPT ' .. field .. ' is missing') end
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
local PUBLIC = { 'epoch', 'activity', 'opens_at', 'ends_at', 'paused', 'ended', 'sold_out',
  'overshoot', 'orders', 'units', 'restock', 'salt', 'names', 'server', 'fences', 'learn_until',
  'restock_batch', 'restock_debounce_ms' }
local said = {}

-- Whether the public has to hear of the sale; from then on it has.
local function is_news()
  local is = false
  for _, field in ipairs(PUBLIC) do
    if said[field] ~= sale[field] then said[field], is = sale[field], true end
  end
  return is
end

-- Begins an operation: returns the server's time, and sets `sale`.
local function begin()
  sale = load()
  clock = ms()
  if not sale then return clock end
  is_news()
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

-- The text of a user's records as it is now, where they were not taken apart.
local function text_of(user)
  local at = place[user]
  if at then return texts[at] end
  local text = stored[user]
  if not text then
    text = redis.call('HGET', KEYS[2], user) or ''
    stored[user] = text
  end
  return text
end

local function records_of(user)
  local known = records[user]
  if not known then
    known = parse(text_of(user))
    records[user] = known
  end
  return known
end

local function touch(user)
  local at = place[user]
  if not at then
    at = #touched + 1
    touched[at], place[user] = user, at
  end
  return at
end

local function counter(record)
  if record.kind == 'L' then return 'limbo' end
  return record.kind == 'C' and 'confirmed' or 'held'
end

-- Replaces a user's records. Counters follow here and nowhere else, so that they are what the
-- records say, whatever an operation did.
local function put_user(user, new)
  for _, r in ipairs(records[user]) do
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
  records[user] = new
  touch(user)
end

-- The same for the plain cases, which are nearly all: the user's only record becomes `text`, or '' for
-- none, with a deadline or ''.
local function put_only(user, claim, text, due)
  local at = touch(user)
  texts[at], dues[at], members[at] = text, due, user .. '|' .. claim
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
  local is_public, is_latch = false, sale.names ~= said.names
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
  is_public = is_news() or is_public
  if (rises or is_public) and not is_new then sale.version = sale.version + 1 end
  rises = false
end

-- Brings the deadlines of a user in step.
local function write_dues(user)
  local due = {}
  for _, r in ipairs(parse(stored[user])) do
    if r.kind == 'A' or r.kind == 'P' then due[r.claim] = -1 end
  end
  for _, r in ipairs(records[user]) do
    if r.kind == 'A' or r.kind == 'P' then due[r.claim] = r.deadline end
  end
  for claim, deadline in pairs(due) do
    if deadline < 0 then
      redis.call('ZREM', KEYS[3], user .. '|' .. claim)
    else
      redis.call('ZADD', KEYS[3], int(deadline), user .. '|' .. claim)
    end
  end
end

local function write_users()
  for at, user in ipairs(touched) do
    local text = texts[at]
    if records[user] then
      write_dues(user)
      text = format(records[user])
    elseif dues[at] ~= '' then
      redis.call('ZADD', KEYS[3], dues[at], members[at])
    else
      redis.call('ZREM', KEYS[3], members[at])
    end
    if text == '' then
      redis.call('HDEL', KEYS[2], user)
    else
      redis.call('HSET', KEYS[2], user, text)
    end
  end
end

-- Writes a field of the ledger where it changed, and in the reply.
local function put(field, value)
  if fields[field] == value then return end
  redis.call('HSET', KEYS[1], field, value)
  fields[field] = value
  local at = 1
  while flat[at] and flat[at] ~= field do at = at + 2 end
  flat[at], flat[at + 1] = field, value
end

local function put_number(field, n)
  if numbers[field] == n then return end
  numbers[field] = n
  put(field, int(n))
end

local function write_sale()
  put_number('epoch', sale.epoch)
  put_number('version', sale.version)
  put('revision', sale.revision)
  put('applied', sale.applied)
  put('activity', sale.activity)
  put_number('opens_at', sale.opens_at)
  if sale.ends_at then put_number('ends_at', sale.ends_at) else put('ends_at', '') end
  put('paused', flag(sale.paused))
  put('ended', flag(sale.ended))
  put('sold_out', flag(sale.sold_out))
  put_number('overshoot_permille', sale.overshoot)
  put_number('orders', sale.orders)
  put_number('units', sale.units)
  put('restock', sale.restock)
  put('salt', sale.salt)
  put('server', sale.server)
  put_number('fences', sale.fences)
  put_number('learn_until', sale.learn_until)
  put_number('seq', sale.seq)
  put('ids', sale.ids)
  put_number('restock_batch', sale.restock_batch)
  put_number('restock_debounce_ms', sale.restock_debounce_ms)
  put('pools', sale.names)
  for _, pool in ipairs(loaded) do
    local of = ':' .. pool.name
    put_number('stock' .. of, pool.stock)
    put_number('confirmed' .. of, pool.confirmed)
    put_number('held' .. of, pool.held)
    put_number('limbo' .. of, pool.limbo)
    put('sold_out' .. of, flag(pool.sold_out))
    put('held_back' .. of, flag(pool.held_back))
    put_number('back_since' .. of, pool.back_since)
    if pool.source ~= '' or fields['source' .. of] then
      put('source' .. of, pool.source)
      put_number('read_at' .. of, pool.read_at)
      put_number('not_before' .. of, pool.not_before)
      put_number('empty_since' .. of, pool.empty_since)
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
    redis.call('XADD', KEYS[5], 'MAXLEN', '~', '10000', '*', 'event', e.event,
      'epoch', int(sale.epoch), 'pool', e.pool,
      'units', #e.claims > 0 and int(e.units) or '',
      'claims', table.concat(e.claims, ';'), 'text', e.text)
  end
  return { int(now), flag(changed), flat, result }
end
