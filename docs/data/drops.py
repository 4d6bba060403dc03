from collections import Counter

reasons = Counter()
for event in reader.events():
    if event.skb_drop is not None:
        reasons[event.skb_drop.drop_reason] += 1
for reason, count in reasons.most_common():
    print(f"{count:5} {reason}")
