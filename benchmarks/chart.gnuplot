# A group's ratios as bars, with the goal of each as a mark (benchmarks/report
# says kind, data, group and output).
set terminal @kind size 900,480 font "sans,11"
set output output
set title group.": how many times better than the peer"
set style fill solid 0.6
set boxwidth 0.6
set yrange [0:*]
set xtics rotate by -35
set grid ytics
set key outside top center horizontal
plot data using 0:2:xtic(1) with boxes title "ours to the peer" linecolor rgb "#4477aa", \
     1 title "as the peer" linecolor rgb "#888888", \
     data using 0:3 with points pointtype 7 linecolor rgb "#cc3311" title "goal"
