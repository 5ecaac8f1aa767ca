# Part of build.sh: the verb lint, and the suite that holds mrc.h as other programs include it.

. tests/count.sh

# none WHAT COMMAND...: COMMAND prints the violations, one a line.
none() {
    what=$1
    shift
    found=$("$@" 2>&1)
    if [ -z "$found" ]; then ok; else
        bad "$what:"
        printf '%s\n' "$found" | head -n 20
    fi
}

#===================================================================================================
# mrc.h with one compiler: as C++, static, from another folder; the programs
#===================================================================================================
check_header() {
    cc=$1 dir=$OUT/test/header-$1
    cxx=$(echo "$cc" | sed 's/gcc/g++/; s/clang/clang++/')
    mkdir -p "$dir/folder"
    cp mrc.h "$dir/folder/"
    printf '#define MRC_IMPLEMENTATION\n#include "folder/mrc.h"\n' >"$dir/impl.c"
    if compile "$cc" "$dir/impl.o" -c "$dir/impl.c"; then ok
    else bad "$cc: mrc.h included from another folder"; fi

    if ! have "$cxx"; then skip "no $cxx: mrc.h's declarations as C++17"
    elif echo 'int main() { return 0; }' | "$cxx" -x c++ - -o "$dir/probe" 2>/dev/null; then
        if "$cxx" -std=c++17 -Wall -Wextra -Wpedantic -Werror tests/support/compile_cxx.cc \
            "$dir/impl.o" -lm -lpthread -o "$dir/cxx" && "$dir/cxx"; then ok
        else bad "$cxx: mrc.h's declarations as C++17, twice"; fi
    else skip "$cxx makes no programs here: mrc.h's declarations as C++17"; fi

    # Static with all functions unused, included twice.
    printf '#define MRC_STATIC\n#include "impl.c"\n#include "impl.c"\n' >"$dir/static.c"
    echo 'int main(void) { return 0; }' >>"$dir/static.c"
    if compile "$cc" "$dir/static" "$dir/static.c"; then ok; else bad "$cc: MRC_STATIC"; fi

    # A system header first hides POSIX in strict C: that must be said, not end in odd errors.
    printf '#include <stdio.h>\n#include "impl.c"\n' >"$dir/late.c"
    if "$cc" -std=c11 -fsyntax-only "$dir/late.c" 2>&1 | grep -q 'before system headers'; then ok
    else bad "$cc: POSIX is hidden and nothing is said"; fi

    # What ./build.sh fuzz would compile; some compilers take what others refuse.
    for source in tests/fuzz/fuzz_*.c; do
        if "$cc" $STD -w -pthread -fsyntax-only "$source"; then ok; else bad "$cc: $source"; fi
    done

    [ -n "$CC" ] || CC=$cc
    find_http
    make_page
    for source in tools/*.c; do
        why=$(left_out "$source")
        [ "$source" = tools/library.c ] && continue         # compiled above
        if [ -n "$why" ]; then skip "$cc: $source: $why"; continue; fi
        for blas in "" -DMRC_OPENBLAS; do
            # shellcheck disable=SC2086
            if compile "$cc" "$dir/tool.o" -O2 "-I$OUT" -c "$source" $blas; then ok
            else bad "$cc: $source $blas"; fi
        done
    done
    summary
}

#===================================================================================================
# lint
#===================================================================================================
# Files that people write.  Columns are code points, so bytes 80-bf do not count.
FOLDERS="backends data tests tools"
sources() {
    # shellcheck disable=SC2086
    find mrc.h $FOLDERS '(' -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cc' ')' \
        2>/dev/null
}
scripts() {
    # shellcheck disable=SC2086
    find build.sh .ci/run $FOLDERS '(' -name '*.sh' -o -name '*.py' -o -name run ')' 2>/dev/null
}

# CONTENTS against the sections.
lint_tags() {
    sed '/#ifndef MRC_H/q' mrc.h | grep -o '>>[a-z_]*\.[a-z_0-9]*' >"$OUT/tags.contents"
    sed '1,/#ifndef MRC_H/d' mrc.h | grep -o '>>[a-z_]*\.[a-z_0-9]*' >"$OUT/tags.sections"
    diff "$OUT/tags.contents" "$OUT/tags.sections"
    sort "$OUT/tags.contents" | uniq -d
    rm -f "$OUT/tags.contents" "$OUT/tags.sections"
}

lint_sections() {
    awk 'function close_section(end) {
            if (tag != "" && tag != ">>impl.tables" && end - begun > 900)
                print "mrc.h:" begun ": " tag " has " end - begun " lines"
        }
        /^\/\/ >>[a-z]/ { close_section(NR); tag = $2; begun = NR }
        END { close_section(NR) }' mrc.h
}

# A function begins at the last line in column 1 before its "}" in column 1.
lint_functions() {
    # shellcheck disable=SC2046
    awk '/^[A-Za-z_]/ { begun = FNR; head = $0 }
        /^}$/ && FNR - begun >= 60 {
            print FILENAME ":" begun ": " FNR - begun + 1 " lines: " head
        }' $(sources)
}

lint_columns() {
    # shellcheck disable=SC2046
    LC_ALL=C awk '{ line = $0; gsub(/[\200-\277]/, "", line) }
        length(line) > 100 { print FILENAME ":" FNR ": " length(line) " columns" }' \
        $(sources) build.sh tests/*.sh
}

lint_blanks() {
    # shellcheck disable=SC2046
    awk '/[ \t]$/ { print FILENAME ":" FNR ": trailing blank" }
        /\t/ { print FILENAME ":" FNR ": tab" }' $(sources) $(scripts)
}

# Code without comments and strings, for the searches below.
code_of() {
    awk '{ gsub(/\\./, ""); gsub(/"[^"]*"/, "\"\""); sub(/\/\/.*/, ""); print NR ": " $0 }' "$1"
}
# qsort() may allocate; malloc() and free() are the default hooks', nobody else's.
lint_hooks() {
    code_of mrc.h | grep -E '(^|[^A-Za-z0-9_>.])(qsort|bsearch|[cm]alloc|realloc|strdup|free) *\(' \
        | grep -vE 'mrc__std_(alloc|free)'
}

lint_calls() {
    code_of mrc.h \
        | grep -E '[^A-Za-z0-9_](_?exit|abort|assert|v?f?printf|perror|f?puts|f?putchar) *\('
}
lint_globals() {
    code_of mrc.h | grep -E '^[0-9]+: static ' | grep -E '(=.*|;)[ ]*$' | grep -v '(\|const '
}
lint_marks() {
    # The words themselves are split, or this line would be found.
    # shellcheck disable=SC2046
    grep -n -E '(TO''DO|FIX''ME|(^|[^X])X''XX([^X]|$))' $(sources) $(scripts) README.md
}

# A compiler that is not known may warn of what none has warned of: then programs still build.
lint_werror() {
    awk '/-Werror/ && !/WERROR/ { print FILENAME ":" FNR ": " $0 }' build.sh
}

lint() {
    mkdir -p "$OUT" || exit 5
    none "each tag stands in CONTENTS and, in that order, at its section" lint_tags
    none "a section has at most 900 lines" lint_sections
    none "a function has at most 60 lines" lint_functions
    none "a line has at most 100 columns" lint_columns
    none "no tabs, no trailing blanks" lint_blanks
    none "mrc.h never ends the program nor prints" lint_calls
    none "mrc.h allocates through its hooks only" lint_hooks
    none "mrc.h has no mutable globals" lint_globals
    none "build.sh makes warnings errors only where WERROR says so" lint_werror
    none "nothing is marked as unfinished" lint_marks
    summary
}
