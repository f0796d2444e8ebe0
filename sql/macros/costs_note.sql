-- costs_note.sql
-- Question:    What must whoever reads a cost know about it?
-- Arguments:   how many prices there are; hours without a price, and volume days without one, that the cost leaves out.
-- Answer:      that no price table is named, that the cost leaves something out, or null: it is whole.
(prices, hours, volume_days) as case
    when prices = 0 then 'no price table is named: marts.prices names one'
    when hours > 0 and volume_days > 0 then 'hours and volumes without a price are not part of the cost'
    when hours > 0 then 'hours without a price are not part of the cost'
    when volume_days > 0 then 'volumes without a price are not part of the cost'
end
