/* What every part of the gateway asks of it. */
#include "gateway/gateway.h"
#include "common/base/banned.h"

struct pg *gateway_read(struct gateway *gw)
{
    struct pg *best = gw->reads[0];

    for (int64_t i = 1; i < gw->config.pg_connections; i++)
        if (pg_in_flight(gw->reads[i]) < pg_in_flight(best))
            best = gw->reads[i];
    return best;
}

void gateway_sample_clock(struct gateway *gw, struct wall_us db_now)
{
    if (db_now.us != 0)
        db_clock_sample(&gw->clock, db_now, clock_mono());
}

void gateway_nudge(struct gateway *gw, int shard)
{
    char queue[64], body[48];

    snprintf(queue, sizeof(queue), "ropewalk.inbox.%d", shard);
    snprintf(body, sizeof(body), "{\"v\":1,\"shard\":%d}", shard);
    amqp_publish(gw->publish,
                 &(struct amqp_message){.exchange = "", .routing_key = queue, .type = "nudge", .body = str_of(body)});
}
