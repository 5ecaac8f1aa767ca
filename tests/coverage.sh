# Part of build.sh: the verb coverage.

#===================================================================================================
# coverage: lines and branches of the parsers in mrc.h, from gcc's counters
#
# The suites that read files run at -O0, fault loops among them, and each fuzz target COVERAGE_RUNS
# times.  A branch taken only when memory or a system call fails counts like any other.  What no run
# took stands in build/coverage/missing.txt, and each of it must stand in tests/coverage_left.tsv
# with a reason: a branch that no test takes cannot be added unseen.  `coverage --write` writes the
# list anew, without what a test takes by now; rows without a reason then stand in it as "?", which
# fails.  The list is of gcc 12 and of a machine that has the cases of ../shared.
#===================================================================================================
COVERAGE_SUITES="test_text test_yaml test_safetensors test_torch test_tokenizer test_data test_model
    test_families test_checkpoint test_search test_dense test_retrieval test_qa test_readers
    test_foreign test_hostile test_memory test_faults"
COVERAGE_SECTIONS="utf8 json file entries safetensors pickle torch trie vocabulary tok_files regex
    sentencepiece tok_load tokenizer bpe arrow dataset config model_weights model_dir
    checkpoint corpus blocks index vectors dense encoder_dir pairs"
COVERAGE_RUNS=${COVERAGE_RUNS:-20000}

coverage_source() {
    case $1 in
    fuzz_*) echo "tests/fuzz/$1.c" ;;
    *)      source_of "$1" ;;
    esac
}

# coverage_build SUITE: its object, with one mrc.o for those that are linked, and the program.  What
# child processes run counts too: test_leave() calls __gcov_dump(), which -u brings in.
coverage_build() {
    dir=$OUT/coverage object=
    if [ "${1#fuzz_}" != "$1" ] || is_linked "$1"; then
        object=$dir/mrc.o
        newer "$object" mrc.h tools/library.c tests/coverage.sh \
            || gcc $STD -w -pthread -O0 --coverage -c tools/library.c -o "$object" || return 1
    fi
    newer "$dir/$1.o" "$(coverage_source "$1")" tests/support/*.h mrc.h tests/coverage.sh \
        || gcc $STD -w -pthread -O0 --coverage -c "$(coverage_source "$1")" -o "$dir/$1.o" \
        || return 1
    # shellcheck disable=SC2086
    gcc -pthread --coverage -Wl,-u,__gcov_dump "$dir/$1.o" $object $LIBS -o "$dir/$1"
}

# What gcov says of mrc.h in each program, added up: "LINE line COUNT", "LINE branch INDEX COUNT".
coverage_counts() {
    for data in "$OUT"/coverage/*.gcda; do
        gcov -b -c -t "$data" 2>/dev/null
    done | awk '
        /^ *-: *0:Source:/ { ours = /mrc\.h$/ }
        !ours { next }
        /^branch/ { branch[line " branch " $2] += $4; next }
        /^ *[-0-9#=*]+: *[0-9]+:/ {
            split($0, part, ":")
            line = part[2] + 0
            if (part[1] ~ /-/) next
            if (!(line in lines)) lines[line] = 0
            lines[line] += part[1]
        }
        END {
            for (l in lines) print l, "line", lines[l]
            for (b in branch) print b, branch[b]
        }' | sort -n
}

# The table, from the sections of mrc.h and the counts; the lines with a branch that was never taken
# go to the file $1.
coverage_table() {
    awk -v wanted="$COVERAGE_SECTIONS" -v missing="$1" '
        function percent(part, all) { return all ? 100 * part / all : 100 }
        function row(name, l, ln, b, bn) {
            printf "%-12s %6d of %6d lines %6.2f %%   %6d of %6d branches %6.2f %%\n", name, l, ln,
                percent(l, ln), b, bn, percent(b, bn)
        }
        BEGIN { n = split(wanted, order, " ") ; for (i in order) is[order[i]] = 1 }
        FNR == NR {
            if (/^\/\/ >>/) { section = $2; sub(/.*\./, "", section)
                              if ($2 !~ /^>>impl/) section = "" }
            of[FNR] = section
            text[FNR] = $0
            next
        }
        !(of[$1] in is) { next }
        $2 == "line" { all_lines[of[$1]]++; lines[of[$1]] += $3 > 0 }
        $2 == "branch" {
            all[of[$1]]++
            taken[of[$1]] += $4 > 0
            if ($4 == 0) print $1 " " $3 ": " text[$1] >missing
        }
        END {
            for (i = 1; i <= n; i++) {
                s = order[i]
                row(s, lines[s], all_lines[s], taken[s], all[s])
                l += lines[s]; ln += all_lines[s]; b += taken[s]; bn += all[s]
            }
            row("all", l, ln, b, bn)
            exit !bn
        }' mrc.h -
}

# Branches left, by section and text of the line, which stay when lines move: section, count, text.
coverage_left() {
    awk 'FNR == NR {
            if (/^\/\/ >>/) { section = $2; sub(/.*\./, "", section) }
            of[FNR] = section
            next
        }
        { line = $1; sub(/^[0-9]+ [0-9]+: */, ""); count[of[line] "\t" $0]++ }
        END {
            for (key in count) {
                split(key, part, "\t")
                print part[1] "\t" count[key] "\t" part[2]
            }
        }' \
        mrc.h "$1" | LC_ALL=C sort
}

# coverage_compare LEFT LIST: what is left and not in the list, and what is listed and not left.
# LIST has section, the most branches of that text that may be left, kind and text, and lines
# "# kind NAME: what it means".
coverage_compare() {
    awk -F '\t' '
        FILENAME == ARGV[1] {
            if (/^# kind /) { split($0, word, /[ :]/); kinds[word[3]] = 1 }
            if (/^#/ || !NF) next
            most[$1 "\t" $4] = $2
            if (!($3 in kinds)) print "no reason: " $0
            next
        }
        { seen[$1 "\t" $3] }
        !($1 "\t" $3 in most) { print "not in the list: " $0; next }
        $2 > most[$1 "\t" $3] + 0 { print "more than in the list: " $0 }
        END { for (row in most) if (!(row in seen)) print "not left any more: " row }' "$2" "$1"
}

# The list with the counts of $1, each row keeping its reason; "?" where there is none.
coverage_write() {
    awk -F '\t' '
        FILENAME == ARGV[1] {
            if (/^#/) print
            else kind[$1 "\t" $4] = $3
            next
        }
        { print $1 "\t" $2 "\t" ($1 "\t" $3 in kind ? kind[$1 "\t" $3] : "?") "\t" $3 }
        ' tests/coverage_left.tsv "$1" \
        >"$OUT/coverage/written.tsv" && cp "$OUT/coverage/written.tsv" tests/coverage_left.tsv
}

coverage() {
    have gcc && have gcov || die 3 "coverage: gcc and gcov are needed (found no such programs)"
    mkdir -p "$OUT/coverage" || exit 5
    rm -f "$OUT/coverage"/*.gcda "$OUT/coverage/missing.txt"
    failed=0
    for suite in $COVERAGE_SUITES; do
        coverage_build "$suite" || exit 3
        limited "$OUT/coverage/$suite" >"$OUT/coverage/$suite.log" 2>&1 || failed=$((failed + 1))
        say "$suite: $(tail -n 1 "$OUT/coverage/$suite.log")"
    done
    build_all
    fuzz_make_seeds
    for source in tests/fuzz/fuzz_*.c; do
        name=$(basename "$source" .c)
        coverage_build "$name" || exit 3
        # shellcheck disable=SC2046
        "$OUT/coverage/$name" --runs $COVERAGE_RUNS $(fuzz_seeds "${name#fuzz_}") \
            >"$OUT/coverage/$name.log" 2>&1 || failed=$((failed + 1))
        say "$name: $(tail -n 1 "$OUT/coverage/$name.log")"
    done
    : >"$OUT/coverage/missing.txt"
    coverage_counts | coverage_table "$OUT/coverage/missing.txt" || failed=$((failed + 1))
    coverage_left "$OUT/coverage/missing.txt" >"$OUT/coverage/left.tsv"
    [ "$1" != --write ] || coverage_write "$OUT/coverage/left.tsv"
    coverage_compare "$OUT/coverage/left.tsv" tests/coverage_left.tsv >"$OUT/coverage/unlisted.txt"
    head -n 40 "$OUT/coverage/unlisted.txt"
    unlisted=$(wc -l <"$OUT/coverage/unlisted.txt")
    left=$(awk -F '\t' '{ n += $2 } END { print n + 0 }' "$OUT/coverage/left.tsv")
    echo "$left branches left, $((unlisted)) rows of the list wrong, $failed runs failed"
    [ "$unlisted" -eq 0 ] || failed=$((failed + 1))
    [ "$failed" -eq 0 ]
}
