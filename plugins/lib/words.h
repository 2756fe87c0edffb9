/* words.h: a part's words, for models that give each of them a class: those of a column of words, or, where there is only text, what a
 * simple rule makes of it. */
#ifndef MBL_WORDS_H
#define MBL_WORDS_H

#include "texts.h"

struct mbl_words {
    struct mbl_text *words;      /* [count], in the dataset's memory */
    int64_t *rows;               /* [row_count + 1]: row r has the words rows[r] … rows[r + 1] - 1 */
    int64_t count, row_count;
    const struct mbl_text_column *text; /* what they were cut out of; NULL: they were words before */
};

/* The column that t->columns names, or the dataset's column of words, which t then names; or, so that what was learned from words answers
 * to plain text too, its only column of text: there a word is a run of characters that are neither white space nor punctuation, or one
 * character of punctuation (as BERT's tokenizers part words). Fails if there is no such column, or no word at all. */
MBL_EXPORT int mbl_words_open(struct mbl_words *w, struct mbl_texts *t, const struct mbl_dataset *d, struct mbl_error *e);
MBL_EXPORT void mbl_words_close(struct mbl_words *w); /* all zero is fine */

/* Appends a row as a text: as it was, or its words with a space between each two. begins[i] and ends[i], in characters, become where its
 * i-th word lies; both have room for the row's words. */
MBL_EXPORT void mbl_words_text(const struct mbl_words *w, int64_t row, struct mbl_buf *out, int64_t *begins, int64_t *ends);

#endif
