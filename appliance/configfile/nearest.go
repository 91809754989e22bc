package configfile

// nearest proposes the key that was probably meant, "" if none is like it.
func nearest(word string, keys []Key) string {
	best, least := "", 3
	if len(word) > 40 {
		return ""
	}
	for i := range keys {
		if d := distance(word, keys[i].Name); d < least {
			best, least = keys[i].Name, d
		}
	}
	if best == "" {
		return ""
	}
	return "did you mean " + best + "? It is one "
}

// distance is how many letters have to be put in, left out or changed (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
