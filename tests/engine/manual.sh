#!/usr/bin/env bash
# manual.sh: the manual page keeps step with the program.
source "$(dirname "$0")/lib.sh"

test_the_manual_page_names_every_option_and_command() {
    expect_ok mbuild --help
    sed 's/\\//g; s/^\.[A-Z]* //' "$MB_SOURCE/docs/mbuild.1" >manual
    grep -oE '^ +(-[a-zA-Z], )?--[a-z-]+|^  [a-z]+' "$out" | grep -oE '(--)?[a-z][a-z-]*$' | sort -u >words
    [[ $(wc -l <words) -gt 20 ]] || fail "only these were found in --help: $(cat words)"
    while read -r word; do
        grep -qE -- "(^| )$word( |,|=|\$)" manual || fail "docs/mbuild.1 does not name $word"
    done <words
}

run_tests "$@"
