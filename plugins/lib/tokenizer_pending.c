/* Placeholder while tokenizer saving and training land: weak, so that the real ones win. Not to be committed. */
#include "tokenizer.h"
__attribute__((weak)) int mbl_tokenizer_save(const struct mbl_tokenizer *t, const char *folder, struct mbl_error *e) {
    (void)t;
    return mbl_error_set(e, "%s: tokenizers can't be saved yet", folder);
}
__attribute__((weak)) int mbl_tokenizer_train(const struct mbl_tokenizer_training *o, const struct mbl_text *texts, size_t count,
                                              struct mbl_tokenizer **out, struct mbl_error *e) {
    (void)o, (void)texts, (void)count, (void)out;
    return mbl_error_set(e, "tokenizers can't be trained yet");
}
