-- The figures of the SIP edge for Prometheus (docs/edge-metrics.md): handshakes per trunk, slot, direction and peer.
-- HAProxy's own exporter tells neither failed handshakes nor peers. Needs nothing but the sections of haproxy.cfg.

local START = core.now()

-- Inbound, a failed handshake is an attempt that ended without ever having been a session: what the stage before the TLS
-- listener has seen come and go, minus what the listener has. When a connection ends, the two stages do so a moment
-- apart, in either order, and look like a failure for that long – never like more of them than there are attempts without
-- a session –; so may one that ends while the tables are read, by another thread. So the attempts are read before the sessions, several times, and what all readings say, of this scrape
-- and of the one before it, is believed; what was told once is never taken back, for a counter must not fall.
local READINGS, APART_MS = 3, 15

-- At most that many addresses are named that are neither in SIP_PEERS nor ever had a good handshake: the whole Internet
-- knocks at port 5061. The others are counted together.
local OTHER = "other"

local known = {}
for address in (os.getenv("SIP_PEERS") or ""):gmatch("[^%s,]+") do known[address] = true end

local seen_of = {}     -- trunk|slot → address → failed handshakes as the scrape before saw them
local failed_of = {}   -- trunk|slot → address → failed handshakes as last told
local other_of = {}    -- trunk|slot → failed handshakes of addresses without a name
local answered, unanswered = {}, {}   -- backend|server → outbound connections with and without an answer

local function plain(address)
  return (tostring(address):gsub("^::ffff:(%d+%.%d+%.%d+%.%d+)$", "%1"))
end

local function ended(table_of)
  local result = {}
  for address, entry in pairs(table_of:dump()) do
    result[plain(address)] = { all = entry.conn_cnt, over = entry.conn_cnt - entry.conn_cur }
  end
  return result
end

-- The slots of all trunks: { trunk, slot, attempts = stick table, sessions = stick table }
local function slots()
  local result = {}
  for name, proxy in pairs(core.proxies) do
    local trunk, slot = name:match("^(.+)%-sessions%-([^-]+)$")
    local attempts = trunk and core.proxies[trunk .. "-attempts-" .. slot]
    if attempts and attempts.stktable and proxy.stktable then
      table.insert(result, { trunk = trunk, slot = slot, attempts = attempts.stktable, sessions = proxy.stktable })
    end
  end
  return result
end

-- address → { ok, failed } of one slot, now
local function reading(slot)
  local result = {}
  local attempts = ended(slot.attempts)   -- first: what ends in between is then a session too many, and no failure
  local sessions = ended(slot.sessions)
  for address, session in pairs(sessions) do
    result[address] = { ok = session.all, failed = 0 }
  end
  for address, attempt in pairs(attempts) do
    local session = sessions[address] or { all = 0, over = 0 }
    local failed = math.min(attempt.over - session.over, attempt.all - session.all)
    result[address] = { ok = session.all, failed = math.max(failed, 0) }
  end
  return result
end

local function inbound(found)
  local all = {}
  for number = 1, READINGS do
    if number > 1 then core.msleep(APART_MS) end
    for index, slot in ipairs(found) do
      local latest, so_far = reading(slot), all[index]
      if so_far then
        for address, counts in pairs(latest) do
          counts.failed = math.min(counts.failed, so_far[address] and so_far[address].failed or 0)
        end
      end
      all[index] = latest
    end
  end
  return all
end

local function escaped(value)
  return (tostring(value):gsub('[\\"\n]', { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n" }))
end

local function line(out, name, labels, value)
  local parts = {}
  for _, label in ipairs(labels) do
    table.insert(parts, label[1] .. '="' .. escaped(label[2]) .. '"')
  end
  table.insert(out, string.format("%s{%s} %.0f\n", name, table.concat(parts, ","), value))
end

local function handshakes(out, trunk, slot, direction, peer, ok, failed)
  for _, counted in ipairs({ { "ok", ok }, { "failed", failed } }) do
    if counted[2] then
      line(out, "sip_edge_handshakes_total", {
        { "trunk", trunk }, { "certificate", slot }, { "direction", direction }, { "peer", peer },
        { "result", counted[1] } }, counted[2])
    end
  end
end

local function tell_inbound(out, found)
  for index, addresses in ipairs(inbound(found)) do
    local trunk, slot = found[index].trunk, found[index].slot
    local key = trunk .. "|" .. slot
    local before, now, other = failed_of[key] or {}, {}, other_of[key] or 0
    local seen_before, seen = seen_of[key] or {}, {}
    for address, counts in pairs(addresses) do
      seen[address] = counts.failed
      now[address] = math.max(math.min(counts.failed, seen_before[address] or 0), before[address] or 0)
      if known[address] or counts.ok > 0 then
        handshakes(out, trunk, slot, "inbound", address, counts.ok, now[address])
      else
        other = other + now[address] - (before[address] or 0)
      end
    end
    seen_of[key], failed_of[key], other_of[key] = seen, now, other
    handshakes(out, trunk, slot, "inbound", OTHER, nil, other)
  end
end

-- Outbound, HAProxy knows what could not be connected or did not finish its handshake; the rules below know the rest.
local function tell_outbound(out, trunks)
  for name, proxy in pairs(core.proxies) do
    local trunk, slot = name:match("^(.+)%-carrier%-([^-]+)$")
    if trunk and core.proxies[trunk .. "-out-" .. slot] then
      trunks[trunk] = true
      local sums = {}
      for server_name, server in pairs(proxy.servers) do
        local key, stats = name .. "|" .. server_name, server:get_stats()
        local peer = plain((tostring(server:get_addr()):gsub(":%d+$", "")))
        local sum = sums[peer] or { ok = 0, failed = 0 }
        sum.ok = sum.ok + (answered[key] or 0)
        sum.failed = sum.failed + stats.econ + stats.wretr + (unanswered[key] or 0)
        sums[peer] = sum
      end
      for peer, sum in pairs(sums) do handshakes(out, trunk, slot, "outbound", peer, sum.ok, sum.failed) end
    end
  end
end

local function count(counters)
  return function(txn)
    local key = tostring(txn.f:be_name()) .. "|" .. tostring(txn.f:srv_name())
    counters[key] = (counters[key] or 0) + 1
  end
end

core.register_action("sip-edge-answered", { "tcp-res" }, count(answered), 0)
core.register_action("sip-edge-unanswered", { "tcp-res" }, count(unanswered), 0)

core.register_service("sip-edge-metrics", "http", function(applet)
  local out, trunks, found = {}, {}, slots()
  table.insert(out, "# HELP sip_edge_handshakes_total TLS handshakes by slot, direction, peer and result.\n")
  table.insert(out, "# TYPE sip_edge_handshakes_total counter\n")
  for _, slot in ipairs(found) do trunks[slot.trunk] = true end
  tell_inbound(out, found)
  tell_outbound(out, trunks)
  table.insert(out, "# HELP sip_edge_start_time_seconds Since when this process counts, in Unix time.\n")
  table.insert(out, "# TYPE sip_edge_start_time_seconds gauge\n")
  for trunk in pairs(trunks) do
    table.insert(out, string.format('sip_edge_start_time_seconds{trunk="%s"} %d.%06d\n',
      escaped(trunk), START.sec, START.usec))
  end
  local body = table.concat(out)
  applet:set_status(200)
  applet:add_header("content-type", "text/plain; version=0.0.4; charset=utf-8")
  applet:add_header("content-length", tostring(#body))
  applet:start_response()
  applet:send(body)
end)
